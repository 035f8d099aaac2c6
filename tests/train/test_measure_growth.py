"""How the cost of training grows: every measurement at tiny sizes, the exponents, and what is refused."""

import bz2
import json
import math

import pytest
import tyro
from helpers_scripts import refused

from minitransformer.models import GPT, GPTConfig
from train import measure_growth
from train.engine.flags_file import settings_of
from train.measure_growth import GrowthSettings, Run, decoding_seconds, exponents, main, seconds_to_loss
from train.measure_memory.made_up_text import nats_per_character, write_running_text
from train.pretrain.gpt import __main__ as pretrain_gpt
from train.pretrain.gpt.settings import GPTSettings

CURVES = {
    "length": {"training", "generation"},
    "width": {"training", "generation"},
    "corpus": {"until the first step", "until a loss of 9"},
    "processes": {"training"},
    "memory": {"peak memory"},
}


def flags_of(name, values, folder):
    loss = ["--loss", "9"] if name == "corpus" else []
    return [name, "--values", values, "--seconds", "0.01", *loss, "--out", str(folder)]


def require_figures(name, values, folder):
    rows = json.loads((folder / "results.json").read_text())
    assert [next(iter(row.values())) for row in rows] == list(map(int, values.split(",")))
    assert all(row.keys() > CURVES[name] and all(row[curve] > 0 for curve in CURVES[name]) for row in rows)
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("tiny")
    write_running_text(folder / "text", 5_000)
    sizes = ["--num-layers", "1", "--d-model", "8", "--context", "8", "--steps", "3", "--evaluations", "1"]
    pretrain_gpt.main([*sizes, "--no-samples", "--data", str(folder / "text"), "--out", str(folder / "run")])
    return Run(folder / "run", seconds_before=1.0, peak_megabytes=200.0)


@pytest.mark.parametrize("name", CURVES)
def test_each_measurement_has_its_figures_a_plot_and_flags_that_repeat_it(name, tiny, tmp_path, monkeypatch):
    def run_of(flags, *_, **sizes):
        tyro.cli(GPTSettings, args=flags).validate()
        varied.append((" ".join(flags), *sizes.values()))
        return tiny

    varied = []
    monkeypatch.setattr(measure_growth, "run_of", run_of)
    main(flags_of(name, "8,16", tmp_path / "out"))
    require_figures(name, "8,16", tmp_path / "out")
    assert len(set(varied)) == 2
    again = settings_of(GrowthSettings, "measure_growth", ["--config", str(tmp_path / "out" / "flags.toml")])
    assert (again.measurement, again.values, again.seconds) == (name, "8,16", 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values"), [("length", "8"), ("width", "8"), ("corpus", "1"), ("processes", "1,2"), ("memory", "8")]
)
def test_each_measurement_runs_in_processes_of_its_own(name, values, tmp_path):
    main(flags_of(name, values, tmp_path))
    require_figures(name, values, tmp_path)


def test_exponents_are_the_slopes_between_neighbours():
    assert exponents([(1, 5.0), (3, 45.0), (12, 90.0)]) == pytest.approx({3: 2.0, 12: 0.5})
    assert exponents([(7, 1.0)]) == {}


def test_the_first_evaluation_at_the_loss_counts_and_a_loss_never_reached_has_no_seconds(tmp_path):
    losses = [(1, 3.0), (2, 2.0), (3, 2.1), (4, 1.0)]
    lines = [json.dumps({"seconds": seconds, "validation_loss": loss}) for seconds, loss in losses]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, json.dumps({"seconds": 5, "lr": 0.1})]))
    run = Run(tmp_path, seconds_before=10.0, peak_megabytes=0.0)
    assert seconds_to_loss(run, 2.0) == {"until the first step": 10.0, "until a loss of 2": 12.0}
    assert seconds_to_loss(run, 0.5)["until a loss of 0.5"] is None


def test_a_loss_that_was_not_reached_is_said_in_the_table_and_missing_in_the_plot(tmp_path, monkeypatch, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"seconds": 1, "validation_loss": 3}\n')
    monkeypatch.setattr(measure_growth, "run_of", lambda *_, **__: Run(tmp_path, 1.0, 0.0))
    main(["corpus", "--values", "1", "--out", str(tmp_path / "out")])
    assert "not reached" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "results.json").read_text())[0]["until a loss of 2.7"] is None


@pytest.mark.parametrize("length", [1, 40])
def test_decoding_fills_the_context_and_no_more(length, recwarn):
    sizes = dict(vocab_size=5, max_length=length, d_model=8, num_heads=2, num_layers=1)
    assert decoding_seconds(GPT(GPTConfig(**sizes, eos_id=0)).eval()) > 0
    assert not recwarn


def test_a_longer_text_begins_with_the_shorter_one_and_repeats_no_part_of_it(tmp_path):
    for name, size in (("short", 10_000), ("long", 60_000)):
        write_running_text(tmp_path / name, size)
    short, long = ((tmp_path / name / "train.txt").read_bytes() for name in ("short", "long"))
    lines = long.splitlines()
    assert long.startswith(short) and len(set(lines)) == len(lines)
    assert not set(lines) & set((tmp_path / "long" / "validation.txt").read_bytes().splitlines())


def test_a_compressor_comes_near_the_entropy_and_not_below_it(tmp_path):
    write_running_text(tmp_path / "text", 150_000)
    text = (tmp_path / "text" / "train.txt").read_bytes()
    compressed = len(bz2.compress(text)) * math.log(256) / len(text.decode())
    assert nats_per_character() < compressed < 2 * nats_per_character()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("length --loss 2", "--loss: no effect on length; leave this out"),
        ("corpus --loss 0", "--loss 0.0 must be more than 0"),
        ("length --values 64,0,x", "--values 0,x: whole numbers up to 100000"),
        ("width --values 100", "--values 100: whole numbers up to 100000, for width multiples of 8"),
        ("memory --values 64,64", "each once"),
        (f"corpus --values {'9' * 5000}", "whole numbers up to 100000"),
        ("processes --seconds 0", "--seconds 0.0 must be more than 0"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(flags, message, tmp_path, capsys):
    assert message in refused(capsys, [*flags.split(), "--out", str(tmp_path / "out")], main)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path, capsys):
    (tmp_path / "figures").touch()
    assert "exists already: choose another --out" in refused(capsys, ["length", "--out", str(tmp_path)], main)
    assert "File exists" in refused(capsys, ["length", "--out", str(tmp_path / "figures")], main)
