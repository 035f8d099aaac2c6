"""What all applications share: their list, seeds, the table, resuming."""

import json

import pytest

from train.applications import autoencoder, treegen, vanishing_gradient, vector_to_sequence
from train.applications.__main__ import titles
from train.applications.rivals import parameters_of, results_table, summary

TINY = ["--days", "10", "--d-model", "4", "--hidden-size", "8", "--steps", "2", "--device", "cpu", "--threads", "1"]


def test_the_list_has_every_application_with_a_line():
    assert titles()["vector_to_sequence"].startswith("Vector to sequence: ")
    assert "rivals" not in titles() and all(titles().values())


def test_a_summary_is_the_mean_and_the_sample_standard_deviation_over_seeds():
    runs = {"0": 0.5, "1": 0.7}
    reports = {
        seed: {"test": {"dice": dice}, "parameters": 9, "steps": 4, "seconds": 1.0} for seed, dice in runs.items()
    }
    row = summary(reports)
    assert row["test"]["dice"] == pytest.approx(0.6)
    assert row["spread"]["dice"] == pytest.approx(0.02**0.5)
    assert summary({"0": reports["0"]})["spread"] is None
    columns = results_table({"idea": row, "PCA": {"test": {"dice": 0.1}, "spread": None}}, [0, 1]).columns
    assert list(columns[1].cells) == ["0.6000 ± 0.1414", "0.1000"]


def test_parameters_are_counted_without_memory():
    def make(size):
        return vector_to_sequence.DateWriter(vector_to_sequence.DateWriterConfig(3, size))

    assert parameters_of(lambda: make(4)) == make(4).num_parameters()
    assert parameters_of(lambda: make(10**5)) > 3 * 10**10


def test_several_seeds_are_trained_and_a_finished_rival_is_not_trained_again(tmp_path, capsys):
    folder = tmp_path / "run"
    vector_to_sequence.main(["--out", str(folder), "--seeds", "0,3", *TINY])
    results = json.loads((folder / "results.json").read_text())
    assert list(results["rows"]["format-blind"]["by_seed"]) == ["0", "3"]
    kept = (folder / "format-blind-seed-3" / "model.safetensors").read_bytes()
    (folder / "results.json").unlink()
    capsys.readouterr()
    vector_to_sequence.main(["--resume", str(folder)])
    assert "step 2" not in capsys.readouterr().out
    assert (folder / "format-blind-seed-3" / "model.safetensors").read_bytes() == kept
    assert json.loads((folder / "results.json").read_text())["rows"] == results["rows"]


@pytest.mark.parametrize(
    ("application", "flags", "message"),
    [
        (vector_to_sequence, "--seeds 0,0", "--seeds '0,0': name at least one, each once"),
        (vector_to_sequence, "--seeds 0,x", "whole numbers"),
        (vector_to_sequence, "--d-model 5000", "--d-model 5000 must be more than 0 and at most 4096"),
        (vector_to_sequence, "--seeds 1,2 --seed 3", "--seed: no effect beside --seeds"),
        (vector_to_sequence, "--days 5", "--days 5: from 10 to 17,897"),
        (vanishing_gradient, "--noise 9", "--noise 9 must be at least 10"),
        (vanishing_gradient, "--hidden-size 3", "--hidden-size 3 must be at least 4"),
        (autoencoder, "--narrow 3", "--narrow 3 must be at least 4"),
        (treegen, "--d-model 30", "--d-model 30 is not divisible by --num-heads 4"),
        (treegen, "--d-model 6 --num-heads 2", "--d-model 6 is not divisible by 4"),
        (treegen, "--sentences 499", "--sentences 499: at least 500"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused_in_one_line(application, flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        application.main(["--out", str(tmp_path / "run"), *flags.split()])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_job_is_not_resumed(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit) as exit_:
        vector_to_sequence.main(["--resume", str(tmp_path)])
    assert exit_.value.code == 2
    assert "it has no vector_to_sequence.json" in capsys.readouterr().err
