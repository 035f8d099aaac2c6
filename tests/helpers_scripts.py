"""What the tests of scripts and commands share."""

import json
import signal

import pytest
from helpers_runs import at_batch


def interrupted_at(batch_number, feed_class, monkeypatch, program, arguments):
    """Run a training script, with a Ctrl-C while it makes its batch of this number."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_:
        patch.setattr(feed_class, "batch", feed_class.batch)  # which is put back
        made = at_batch(batch_number, feed_class, lambda: signal.raise_signal(signal.SIGINT))
        program(arguments)
    assert exit_.value.code == 130
    assert len(made) == batch_number


def refused(capsys, arguments, program):
    """The one line on standard error of a command that must end with exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        program(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def results_of(folder):
    """The results of a finished run."""
    return json.loads((folder / "results.json").read_text())


def samples_of(folder):
    """Everything that the model of a run wrote during training, evaluation after evaluation."""
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [sample for line in lines for sample in json.loads(line)["samples"]]
