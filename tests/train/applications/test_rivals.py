"""What all applications share: their list, seeds, the table, resuming."""

import json

import pytest
from helpers_applications import Echo, EchoConfig, echo, refusal

from train.applications.__main__ import titles
from train.applications.rivals import parameters_of, results_table, summary


def test_the_list_has_every_application_with_a_line():
    assert titles() and all(titles().values())
    assert not {"rivals", "writer", "__main__"} & titles().keys()


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
    assert parameters_of(lambda: Echo(EchoConfig(4))) == Echo(EchoConfig(4)).num_parameters()
    assert parameters_of(lambda: Echo(EchoConfig(10**5))) > 2 * 10**10


def test_several_seeds_are_trained_and_a_finished_rival_is_not_trained_again(tmp_path, capsys):
    folder = tmp_path / "run"
    echo(["--out", str(folder), "--seeds", "0,3", "--device", "cpu", "--threads", "1"])
    results = json.loads((folder / "results.json").read_text())
    assert list(results["rows"]["twice as large"]["by_seed"]) == ["0", "3"]
    assert list(results["rows"]["as large"]["test"]) == ["exact match"]
    kept = (folder / "as-large-seed-3" / "model.safetensors").read_bytes()
    (folder / "results.json").unlink()
    capsys.readouterr()
    echo(["--resume", str(folder)])
    assert "step 3" not in capsys.readouterr().out
    assert (folder / "as-large-seed-3" / "model.safetensors").read_bytes() == kept
    assert json.loads((folder / "results.json").read_text())["rows"] == results["rows"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seeds 0,0", "--seeds '0,0': name at least one, each once"),
        ("--seeds 0,x", "whole numbers"),
        ("--seeds 1,2 --seed 3", "--seed: no effect beside --seeds"),
    ],
)
def test_seeds_that_cannot_be_meant_are_refused(flags, message, tmp_path, capsys):
    assert message in refusal(echo, flags, tmp_path / "run", capsys)


def test_a_run_of_another_application_is_not_resumed(tmp_path, capsys):
    (tmp_path / "vector_to_sequence.json").write_text("{}")
    with pytest.raises(SystemExit) as exit_:
        echo(["--resume", str(tmp_path)])
    assert exit_.value.code == 2
    assert "it has no echo.json" in capsys.readouterr().err
