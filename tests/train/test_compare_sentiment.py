import json
import statistics
from pathlib import Path

import pytest
from helpers_processes import together
from helpers_scripts import refused

from train import compare_sentiment as script
from train.compare_sentiment import main
from train.engine.run_folder import create_run, open_run


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "texts.tsv"
    rows = [f"word{i} {'fine' if i % 2 else 'poor'} word{i % 7}\t{'yes' if i % 2 else 'no'}\n" for i in range(60)]
    path.write_text("text\tlabel\n" + "".join(rows))
    return path


def compared(data, folder, *arguments):
    common = ["--data", str(data), "--steps", "2", "--device", "cpu", "--threads", "1"]
    main([*common, "--out", str(folder), *arguments])
    return json.loads((folder / "results.json").read_text())


def test_rows_are_trained_with_every_seed_and_summed_up(data, tmp_path):
    results = compared(data, tmp_path / "run", "--rows", "rnn-last,transformer,pretrained-here", "--seeds", "3,5")
    assert list(results["rows"]) == ["rnn-last", "transformer", "pretrained-here"]
    for name, row in results["rows"].items():
        runs = [json.loads((tmp_path / "run" / f"{name}-{seed}" / "results.json").read_text()) for seed in (3, 5)]
        accuracies = [run["accuracy"] for run in runs]
        assert [run["seed"] for run in runs] == [3, 5]
        assert row["accuracy"] == pytest.approx(statistics.mean(accuracies))
        assert row["spread"] == pytest.approx(statistics.stdev(accuracies))
    assert len(results["baselines"]) == 2
    pretrained = json.loads((tmp_path / "run" / "pretrained" / "results.json").read_text())
    assert pretrained["steps"] == 2
    lines = (tmp_path / "run" / "table.md").read_text().splitlines()
    assert "6 test texts after training on 48; seeds 3, 5" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "RNN, last state",
        "Transformer from scratch",
        "Transformer pretrained here",
        "naive Bayes",
        "TF-IDF + logistic regression",
    ]


def test_pretraining_reads_no_test_text(data, tmp_path):
    compared(data, tmp_path / "run", "--rows", "pretrained-here", "--seeds", "0")
    texts = (tmp_path / "run" / "pretraining-texts" / "train.jsonl").read_text().splitlines()
    corpus = script.load(data, kind="labelled")
    assert [json.loads(line)["text"] for line in texts] == corpus["train"]["text"][:]
    kept = {text for split in ("train", "validation") for text in corpus[split]["text"]}
    assert not kept & set(corpus["test"]["text"])


def test_two_processes_train_every_row_together(data, tmp_path):
    rows = ["--rows", "rnn-last,pretrained-here", "--seeds", "0", "--steps", "2"]
    flags = ["--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"]
    together(2, lambda _: main([*flags, *rows]))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["rows"]) == ["rnn-last", "pretrained-here"]
    for name in ("rnn-last-0", "pretrained", "pretrained-here-0"):
        run = tmp_path / "run" / name
        assert json.loads((run / "settings.json").read_text())["processes"] == 2
        assert json.loads((run / "results.json").read_text())["steps"] == 2


def test_finished_runs_are_kept_when_it_goes_on(data, tmp_path, monkeypatch):
    finetune, started = script.finetune, []

    def stopping(settings, folder, console):
        started.append(folder.name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return finetune(settings, folder, console)

    monkeypatch.setattr(script, "finetune", stopping)
    with pytest.raises(SystemExit) as exit_:
        compared(data, tmp_path / "run", "--rows", "rnn-last,transformer", "--seeds", "0")
    assert exit_.value.code == 130
    first = (tmp_path / "run" / "rnn-last-0" / "model.safetensors").stat().st_mtime_ns
    main(["--resume", str(tmp_path / "run")])
    assert (tmp_path / "run" / "rnn-last-0" / "model.safetensors").stat().st_mtime_ns == first
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["rows"]) == ["rnn-last", "transformer"]
    assert results["rows"]["transformer"]["spread"] is None


def test_a_resumed_comparison_remembers_its_pretrained_run(tmp_path):
    create_run(tmp_path, script.CompareSettings(rows="rnn-last", pretrained=Path("x")))
    settings, _ = open_run(script.CompareSettings, "compare_sentiment", ["--resume", str(tmp_path)])
    assert settings.pretrained == Path("x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "cnn"], "--rows cnn: not among rnn-last, rnn-attention, transformer, pretrained-here, minilm"),
        (["--rows", ""], "--rows '': name at least one"),
        (["--seeds", "0,0"], "--seeds '0,0': name at least one, each once"),
        (["--seeds", "0,-1"], "--seeds '0,-1': each must be at least 0 and less than 4294967296"),
        (["--seeds", "a"], "--seeds 'a': whole numbers"),
        (["--pretrain-minutes", "0"], "--pretrain-minutes 0.0 must be more than 0"),
        (["--pretrained", "nowhere"], "nowhere is not a saved model"),
        (["--data", "nowhere"], "no labelled texts in 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, data, tmp_path, capsys):
    out = tmp_path / "run"
    assert message in refused(capsys, ["--data", str(data), "--out", str(out), *arguments], main)
    assert not out.exists()
