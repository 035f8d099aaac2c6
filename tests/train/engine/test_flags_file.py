"""Flags in a TOML file: read, refused, and written so that they repeat a run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers_runs import JOBS, command, ending, finish, job, write_corpora
from helpers_scripts import refused
from hypothesis import given
from hypothesis import strategies as st

from train import compare_dates
from train.benchmark import __main__ as benchmark
from train.benchmark.__main__ import BenchmarkSettings
from train.compare_dates import CompareDatesSettings
from train.engine.flags_file import read_flags, settings_of, write_flags
from train.engine.run_folder import create_run, open_run, run_job
from train.engine.settings import Settings
from train.measure_growth import GrowthSettings
from train.measure_memory import __main__ as measure_memory
from train.measure_memory.__main__ import MemorySettings


@dataclass(frozen=True)
class Some(Settings):
    """Settings of some script."""

    data: str = "dates"
    size: int | None = None
    rate: float = 0.1
    quick: bool = True
    init: Path | None = None


def opened(*words):
    settings, folder = open_run(Some, "some", [str(word) for word in words])
    create_run(folder, settings)
    return settings


def test_flags_on_the_command_line_win_over_those_of_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('size = 5\nrate = 1\nquick = false\ninit = "a/b"\nkeep-checkpoints = 3\n')
    settings = opened("--config", file, "--size", "6", "--out", tmp_path / "run")
    assert (settings.size, settings.rate, settings.quick, settings.init) == (6, 1, False, Path("a/b"))
    assert (settings.keep_checkpoints, settings.given) == (3, ("config", "out", "size"))


def test_a_run_writes_the_file_that_repeats_it_and_one_for_each_stretch(tmp_path):
    first = opened("--out", tmp_path / "run", "--steps", "4", "--size", "5", "--data", 'a "b"\\\x7f.txt')
    opened("--resume", tmp_path / "run", "--steps", "6")
    again = opened("--config", tmp_path / "run" / "flags.toml", "--out", tmp_path / "again")
    free = dict(config=None, out=None, given=(), run_id="")
    assert dataclasses.replace(again, **free) == dataclasses.replace(first, **free)
    longer = opened("--config", tmp_path / "run" / "flags-2.toml", "--resume", tmp_path / "again")
    assert (longer.steps, longer.stretch) == (6, 2)
    texts = [(tmp_path / name / "flags-2.toml").read_text() for name in ("run", "again")]
    assert texts[0] == texts[1]


values = {"data": st.text(st.characters(codec="utf-8")), "size": st.none() | st.integers(-(2**63), 2**63 - 1)}
values |= {"rate": st.floats(allow_nan=False, allow_infinity=False), "quick": st.booleans()}


@given(st.fixed_dictionaries(values))
def test_every_value_is_read_as_it_was_written(tmp_path_factory, flags):
    path = tmp_path_factory.mktemp("flags") / "flags.toml"
    write_flags(path, Some(**flags), "some")
    found = read_flags(path, Some, "some")
    assert {name: found.get(name) for name in flags} == flags


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sise = 3", "there is no flag --sise; the nearest is --size"),
        ("run-id = 'x'", "there is no flag --run-id; the nearest is"),
        ("out = 'x'", "--out is for the command line alone"),
        ("[size]\nx = 1", "--size {'x': 1} is not of type int"),
        ("size = '3'", "--size '3' is not of type int"),
        ("quick = 1", "--quick 1 is not of type bool"),
        ("device = 'gpu'", "--device 'gpu' is not of type 'auto' or 'cpu' or 'cuda' or 'mps'"),
        ("size = 3\nsize = 4", "is not TOML: Cannot overwrite a value"),
        ("keep-checkpoints = 3\nkeep_checkpoints = 3", "gives --keep-checkpoints twice"),
        ("job = 'finetune'", "is of the job 'finetune', not of 'some'"),
        ("size: 3", "is not TOML"),
        ("threads = -1", "--threads -1 must be more than 0"),
        (b"data = '\xff'", "is not TOML: 'utf-8' codec"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(text, says, tmp_path, capsys):
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = ["--config", str(file), "--out", str(tmp_path / "run")]
    assert says in refused(capsys, words, lambda words: run_job(Some, "some", lambda *_: None, words))
    assert not (tmp_path / "run").exists()


COMMANDS = {
    "compare_dates": (CompareDatesSettings, {"run": Path("runs/locales"), "pairs": 3}),
    "measure_growth": (GrowthSettings, {"measurement": "corpus", "loss": 2.5}),
    "measure_memory": (MemorySettings, {"job": "bert", "megabytes": "1,2"}),
    "benchmark": (BenchmarkSettings, {"parts": "kernels", "target_loss": 1.5, "quick": True}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_without_a_run_folder_take_a_file_and_its_flags_are_written_again(name, tmp_path):
    settings_class, flags = COMMANDS[name]
    path = tmp_path / "flags.toml"
    write_flags(path, settings_class(**flags), name)
    assert settings_of(settings_class, name, ["--config", str(path)]) == settings_class(**flags, config=path)


def test_a_command_without_a_run_folder_writes_its_flags_beside_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_memory, "measured", lambda settings, size: {"megabytes": size / 1e6})
    file = tmp_path / "figures.toml"
    file.write_text(own := "# mine\nmegabytes = '3'\nsteps = 2\n")
    measure_memory.main(["--config", str(file), "--steps", "4", "--out", str(tmp_path / "figures.json")])
    again = settings_of(MemorySettings, "measure_memory", ["--config", str(tmp_path / "figures.flags.toml")])
    assert (again.megabytes, again.steps, again.job) == ("3", 4, "gpt")
    assert file.read_text() == own


@pytest.mark.parametrize(
    ("script", "flag"), [(compare_dates, "pairs"), (measure_memory, "steps"), (benchmark, "parts")]
)
def test_the_nearest_flag_is_said_without_a_run_folder_too(script, flag, tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text(f"{flag}z = 3")
    said = refused(capsys, ["--config", str(file)], script.main)
    assert f"there is no flag --{flag}z; the nearest is --{flag}" in said


@pytest.mark.parametrize("name", ["gpt with muon", *(pytest.param(n, marks=pytest.mark.slow) for n in JOBS)])
def test_the_file_of_a_run_repeats_it_bit_for_bit(name, tmp_path, as_users_run_it):
    data, run, again = write_corpora(tmp_path), tmp_path / "run", tmp_path / "again"
    finish(job(name, data, run), tmp_path / "said")
    script, (kind, *_) = command(name, data, run)
    words = [*([kind] if kind in ("gpt", "bert") else []), "--config", str(run / "flags.toml"), "--out", str(again)]
    finish(lambda: script.main(words), tmp_path / "said")
    assert ending(again) == ending(run)
