"""What the tests of scripts and commands share."""

import json
import signal

import pytest


def interrupted_at(batch_number, feed_class, monkeypatch, program, arguments):
    """Run a training script, with a Ctrl-C while it makes its batch of this number."""
    original, made = feed_class.batch, []

    def batch(self, rows):
        made.append(rows)
        if len(made) == batch_number:
            signal.raise_signal(signal.SIGINT)
        return original(self, rows)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_:
        patch.setattr(feed_class, "batch", batch)
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
