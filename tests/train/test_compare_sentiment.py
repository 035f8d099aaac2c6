import json
import statistics
import sys

import pytest
from helpers_processes import together
from helpers_scripts import refused, results_of

from minitransformer.data import load
from train import compare_sentiment as script
from train.compare_sentiment import main
from train.pretrain.bert.corpora import read_corpora

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "texts.tsv"
    rows = [f"wörd{i} {'fine' if i % 2 else 'poor'} word{i % 7}\t{'yes' if i % 2 else 'no'}\n" for i in range(60)]
    path.write_text("text\tlabel\n" + "".join(rows), encoding="utf-8")
    return path


def flags(data, folder, *arguments):
    return ["--data", str(data), "--steps", "2", "--device", "cpu", "--threads", "1", "--out", str(folder), *arguments]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(flags(data, folder, "--rows", "rnn-last,pretrained-here", "--seeds", "3,5"))
    return folder


def test_rows_are_trained_with_every_seed_and_summed_up(run):
    results = results_of(run)
    assert list(results["rows"]) == ["rnn-last", "pretrained-here"]
    for name, row in results["rows"].items():
        runs = [results_of(run / f"{name}-{seed}") for seed in (3, 5)]
        accuracies = [one["accuracy"] for one in runs]
        assert [one["seed"] for one in runs] == [3, 5]
        assert row["accuracy"] == pytest.approx(statistics.mean(accuracies))
        assert row["spread"] == pytest.approx(statistics.stdev(accuracies))
    assert len(results["baselines"]) == 2
    assert results_of(run / "pretrained")["steps"] == 2
    lines = (run / "table.md").read_text().splitlines()
    assert "6 test texts after training on 48; seeds 3, 5" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "RNN, last state",
        "Transformer pretrained here",
        "naive Bayes",
        "TF-IDF + logistic regression",
    ]


def test_pretraining_reads_the_training_and_validation_texts_and_no_test_text(run, data):
    corpus = load(data, kind="labelled")
    for split in ("train", "validation"):
        lines = (run / "pretraining-texts" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["text"] for line in lines] == corpus[split]["text"][:]
        assert not {*corpus[split]["text"]} & {*corpus["test"]["text"]}
    assert len(list((run / "pretraining-texts").iterdir())) == 2


def test_further_texts_to_pretrain_on_are_read_by_their_column_or_refused_before_any_training(
    data, tmp_path, monkeypatch, capsys
):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(f'{{"review": "it is number {n}. it is fine", "critic": "me"}}\n' for n in range(40)))
    arguments = flags(data, tmp_path / "run", "--pretrain-data", str(more))
    assert "Name them with --pretrain-text" in refused(capsys, arguments, main)
    assert not (tmp_path / "run").exists()
    pretrained = []
    monkeypatch.setattr(script, "pretrain", lambda settings, *_: pretrained.append(settings) or sys.exit())
    with pytest.raises(SystemExit):
        main([*arguments, "--rows", "pretrained-here", "--pretrain-text", "review"])
    assert list(read_corpora(pretrained[0].data, pretrained[0].text)) == [
        str(tmp_path / "run" / "pretraining-texts"),
        str(more),
    ]


@pytest.mark.slow
def test_two_processes_train_every_row_together(data, tmp_path):
    together(2, lambda _: main(flags(data, tmp_path / "run", "--rows", "pretrained-here", "--seeds", "0")))
    assert list(results_of(tmp_path / "run")["rows"]) == ["pretrained-here"]
    for name in ("pretrained", "pretrained-here-0"):
        assert json.loads((tmp_path / "run" / name / "settings.json").read_text())["processes"] == 2
        assert results_of(tmp_path / "run" / name)["steps"] == 2


def test_a_resumed_comparison_keeps_its_finished_runs(data, tmp_path, monkeypatch):
    finetune, started = script.finetune, []

    def stopping(settings, folder, console):
        started.append(folder.name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return finetune(settings, folder, console)

    monkeypatch.setattr(script, "finetune", stopping)
    with pytest.raises(SystemExit) as exit_:
        main(flags(data, tmp_path / "run", "--rows", "rnn-last,transformer", "--seeds", "0"))
    assert exit_.value.code == 130
    main(["--resume", str(tmp_path / "run")])
    assert started == ["rnn-last-0", "transformer-0", "transformer-0"]
    results = results_of(tmp_path / "run")
    assert list(results["rows"]) == ["rnn-last", "transformer"]
    assert results["rows"]["transformer"]["spread"] is None
