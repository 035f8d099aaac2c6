"""Runs made longer: a new stretch has a schedule of its own, and ends with the same bits however it was stopped."""

import json
import math
import shutil
from dataclasses import dataclass

import pytest
import torch
from helpers_scripts import refused
from helpers_training import Copying, die, interrupt, lines, rates, run, scored, take_a_second_a_step

from minitransformer import InputError
from train.engine.results import finish
from train.engine.run_folder import create_run, open_run, run_job
from train.engine.settings import Settings
from train.engine.signals import TrainingInterrupted

pytestmark = pytest.mark.usefixtures("as_users_run_it")
LONGER = dict(stretch=2, steps=20)


def test_a_longer_run_continues_and_its_rate_starts_again(tmp_path):
    _, first = run(tmp_path)
    _, state = run(tmp_path, lr=0.02, **LONGER)
    assert (first.step, state.step, state.epoch, state.position) == (12, 20, 3, 5)
    assert [entry["step"] for entry in state.history] == [3, 6, 9, 12, 14, 16, 18, 20]
    found = rates(tmp_path)
    assert found[:12] == pytest.approx([0.01 * min(1, step / 2) * (1 - (step - 1) / 12) for step in range(1, 13)])
    assert found[12:] == pytest.approx([0.02 * (1 - step / 8) for step in range(8)])
    known = json.loads((tmp_path / "stretches.json").read_text())["stretches"]
    assert [(each["from_step"], each["steps"], each["lr"]) for each in known] == [(0, 12, 0.01), (12, 20, 0.02)]


def test_the_best_weights_are_of_all_stretches_and_patience_counts_in_each(tmp_path):
    _, state = run(tmp_path, evaluate=scored(1.0, 2.0, 3.0), patience=2)
    assert (state.step, state.best_step) == (9, 3)
    model, state = run(tmp_path, evaluate=scored(4.0, 5.0), patience=2, evaluations=11, **LONGER)
    assert (state.step, state.best_step) == (11, 3)
    best, _ = run(tmp_path / "short", steps=12, evaluations=4, evaluate=scored(1.0, 2.0, 3.0, 4.0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), best.parameters(), strict=True))


def test_a_run_stopped_before_its_end_begins_its_new_stretch_there(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, data=Copying({5: interrupt}))
    for _ in range(2):  # and again, resumed in the new stretch
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, data=Copying({3: interrupt}), **LONGER)
    _, state = run(tmp_path, **LONGER)
    assert state.step == 20
    assert rates(tmp_path)[5:] == pytest.approx([0.01 * (1 - step / 15) for step in range(15)])


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A finished run, and what it leaves when it is made longer."""
    short, whole = (tmp_path_factory.mktemp("runs") / name for name in ("short", "whole"))
    run(short, checkpoint_seconds=0.0)
    shutil.copytree(short, whole)
    return short, whole, run(whole, checkpoint_seconds=0.0, **LONGER)


@pytest.mark.parametrize(("batch", "torn"), [(1, False), (1, True), (4, False), (8, True)])
def test_a_longer_run_killed_at_any_step_ends_as_one_never_killed(batch, torn, short, tmp_path):
    """Torn: its newest checkpoint is lost, at first the one that the stretch began with."""
    short, whole, (model, state) = short
    cut = shutil.copytree(short, tmp_path / "cut")
    with pytest.raises(MemoryError):
        run(cut, data=Copying({batch: die}), checkpoint_seconds=0.0, **LONGER)
    if torn:
        shutil.rmtree(max((cut / "checkpoints").glob("step-*")))
    same, same_state = run(cut, checkpoint_seconds=0.0, **LONGER)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert lines(whole) == lines(cut)
    assert (state.best_step, state.tokens) == (same_state.best_step, same_state.tokens)


def test_minutes_make_a_run_longer_too(tmp_path, monkeypatch):
    take_a_second_a_step(monkeypatch)
    run(tmp_path, steps=None, minutes=0.2)
    _, state = run(tmp_path, steps=None, minutes=0.4, stretch=2)
    assert (state.step, state.seconds) == (24, 24.0)
    found = rates(tmp_path)
    assert found[12] == max(found)
    assert math.isclose(found[23], 0.01 / 12)


@pytest.mark.parametrize(
    ("length", "says"),
    [
        ({"steps": 12}, "--steps 12: .* has taken 12 steps already: give more"),
        ({"steps": None, "minutes": 1e-9}, "--minutes 1e-09: .* has trained for .* minutes already: give more"),
    ],
)
def test_a_stretch_that_would_end_before_it_begins_is_refused(length, says, tmp_path):
    run(tmp_path)
    with pytest.raises(InputError, match=says):
        run(tmp_path, **{"stretch": 2, "lr": 0.02, **length})


@pytest.mark.parametrize("edit", [("0.01", "0.02"), ("{", "["), ("12", "13")])
def test_a_list_of_stretches_that_was_changed_is_refused_and_one_that_is_gone_is_said(edit, tmp_path):
    run(tmp_path)
    path = tmp_path / "stretches.json"
    text = path.read_text()
    path.write_text(text.replace(*edit))
    with pytest.raises(InputError, match=r"stretches\.json (was changed|is not valid JSON)"):
        run(tmp_path)
    path.unlink()
    with pytest.warns(UserWarning, match="stretches.json is gone: the run counts as one stretch"):
        run(tmp_path)


@dataclass(frozen=True)
class Some(Settings):
    """Settings of some script."""

    size: int = 3
    epochs: int | None = None
    lr: float = 0.1


def finished_run(folder, *flags):
    """A run of `Some` with one part, which took 12 steps."""
    settings, _ = open_run(Some, "some", ["--out", str(folder), *flags])
    create_run(folder, settings)
    run(folder / "part", run_id=f"{settings.run_id}/part")
    for place, run_id in ((folder / "part", f"{settings.run_id}/part"), (folder, settings.run_id)):
        finish(place, {"score": 1}, run_id)


def test_a_new_length_is_a_new_stretch_which_keeps_the_results_of_the_one_before(tmp_path):
    folder = tmp_path / "run"
    finished_run(folder, "--steps", "12", "--minutes", "5")
    for _ in range(2):  # until it has begun, the same command says the same
        settings, _ = open_run(Some, "some", ["--resume", str(folder), "--steps", "20", "--lr", "0.2"])
        assert (settings.stretch, settings.steps, settings.minutes, settings.lr) == (2, 20, None, 0.2)
    create_run(folder, settings)
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("results*"))
    assert left == ["part/results-1.json", "results-1.json"]
    for more in ([], ["--steps", "20"], ["--lr", "0.2"]):
        again, _ = open_run(Some, "some", ["--resume", str(folder), *more])
        assert (again.stretch, again.steps, again.minutes, again.lr) == (2, 20, None, 0.2)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--steps", "11"], "error: --steps 11: RUN/part has taken 12 steps already: give more"),
        (["--minutes", "1e-6"], "error: --minutes 1e-06: RUN/part has trained for"),
        (["--lr", "0.2"], "leave them out to resume it or give more --steps or --minutes, too"),
        (["--steps", "20", "--size", "4"], "was started with other settings: --size 3, now 4; leave them out"),
    ],
)
def test_what_cannot_make_a_run_longer_is_one_line(flags, says, tmp_path, capsys):
    folder = tmp_path / "run"
    finished_run(folder, "--steps", "12")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    line = refused(
        capsys, ["--resume", str(folder), *flags], lambda words: run_job(Some, "some", lambda *_: None, words)
    )
    assert says.replace("RUN", str(folder)) in line
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_threads_are_said_and_not_kept(tmp_path):
    folder = tmp_path / "run"
    create_run(folder, open_run(Some, "some", ["--out", str(folder), "--threads", "1", "--steps", "2"])[0])
    with pytest.warns(UserWarning, match="--threads 2: the run began with 1, and its bits may change"):
        settings, _ = open_run(Some, "some", ["--resume", str(folder), "--threads", "2", "--steps", "3"])
    create_run(folder, settings)
    assert open_run(Some, "some", ["--resume", str(folder)])[0].threads == 1
