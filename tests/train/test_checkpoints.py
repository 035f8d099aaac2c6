import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch

import train.engine.checkpoints
from minitransformer import InputError
from minitransformer.optim import adamw
from train.engine.checkpoints import Checkpoints
from train.engine.sealed import DamagedFileError, write_sealed
from train.engine.state import State


def linear(value=0.0, outputs=1):
    model = torch.nn.Linear(2, outputs)
    torch.nn.init.constant_(model.weight, value)
    return model


def state(step, best_step=0, /, **changes):
    return dataclasses.asdict(State(step=step, best_step=best_step, seconds=0.5)) | changes


def saved(folder, *steps, best=(), keep=2):
    """A run with a checkpoint at each of `steps`, weights equal to the step; `best` are the steps of best weights."""
    checkpoints, best_step = Checkpoints(folder, keep=keep), 0
    for step in sorted({*steps, *best}):
        model = linear(step)
        if step in best:
            best_step = step
            checkpoints.save_best(model, state(step, best_step))
        if step in steps:
            checkpoints.save(model, adamw(model, lr=0.1), state(step, best_step))
    return checkpoints


def names(folder):
    return sorted(path.name.removesuffix(".safetensors") for path in folder.iterdir())


def resumed(checkpoints):
    model = linear()
    state = checkpoints.resume(model, adamw(model, lr=0.1))
    return state and (state.step, model.weight[0, 0].item())


def test_the_last_few_are_kept_and_the_best_of_each(tmp_path):
    checkpoints = saved(tmp_path, 10, 20, 30, 40, best=(5, 15, 25, 35))
    assert names(tmp_path) == ["best-00000025", "best-00000035", "step-00000030", "step-00000040"]
    assert resumed(checkpoints) == (40, 40.0)
    saved(tmp_path / "more", 10, 20, 30, 40, best=(5,), keep=3)
    assert names(tmp_path / "more") == ["best-00000005", "step-00000020", "step-00000030", "step-00000040"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_torn_newest_one_is_noticed_and_the_one_before_is_used(tmp_path, share):
    checkpoints = saved(tmp_path, 10, 20, best=(5, 15))
    newest = tmp_path / "step-00000020.safetensors"
    newest.write_bytes(newest.read_bytes()[: int(share * newest.stat().st_size)])
    with pytest.warns(UserWarning, match=r"step-00000020.safetensors is damaged.*goes on from step 10"):
        assert resumed(checkpoints) == (10, 10.0)
    # What came after step 10 will be made again.
    assert names(tmp_path) == ["best-00000005", "step-00000010"]


def test_one_whose_best_weights_are_damaged_is_not_used(tmp_path):
    checkpoints = saved(tmp_path, 10, 20, best=(5, 15))
    (tmp_path / "best-00000015.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match=r"best-00000015.safetensors is damaged"):
        assert resumed(checkpoints) == (10, 10.0)


def test_with_none_left_the_run_starts_again(tmp_path):
    checkpoints = saved(tmp_path, 10, best=(10,))
    (tmp_path / "step-00000010.safetensors").write_bytes(b"")
    (tmp_path / f".step-00000020.safetensors.{'0a' * 16}.part").write_bytes(b"what a killed process left")
    model = linear(7.0)
    with pytest.warns(UserWarning, match="starts again from the beginning"):
        assert checkpoints.resume(model, adamw(model, lr=0.1)) is None
    assert model.weight[0, 0] == 7.0
    assert names(tmp_path) == []
    assert Checkpoints(tmp_path / "new").resume(model, adamw(model, lr=0.1)) is None


def test_best_weights_of_lost_steps_are_not_taken_for_the_best(tmp_path):
    """Killed after it had written better weights, and before a checkpoint knew of them."""
    checkpoints = saved(tmp_path, 10, best=(5, 12))
    assert resumed(checkpoints) == (10, 10.0)
    assert names(tmp_path) == ["best-00000005", "step-00000010"]
    model = linear()
    checkpoints.load_best(model, 5)
    assert model.weight[0, 0] == 5.0


def test_a_checkpoint_of_another_model_is_no_damage(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    model = linear(outputs=3)
    with pytest.raises(InputError, match="does not fit the model") as raised:
        checkpoints.resume(model, adamw(model, lr=0.1))
    assert not isinstance(raised.value, DamagedFileError)
    assert names(tmp_path) == ["step-00000010", "step-00000020"]


def test_writing_takes_at_most_a_hundredth_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path)
    assert not checkpoints.due()
    now[0] = 61
    assert checkpoints.due()
    checkpoints.saved_at, checkpoints.cost = 61, 2.0
    now[0] = 61 + 199
    assert not checkpoints.due()
    now[0] = 61 + 201
    assert checkpoints.due()
    assert Checkpoints(tmp_path, seconds=0.0).due()


def test_what_writing_takes_is_counted_for_the_whole_run(tmp_path, monkeypatch):
    saved(tmp_path, 10)
    now, plain = [0.0], train.engine.checkpoints.save_checkpoint

    def slow(*arguments):
        now[0] += 2
        plain(*arguments)

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("train.engine.checkpoints.save_checkpoint", slow)
    checkpoints, model = Checkpoints(tmp_path), linear()
    checkpoints.save(model, adamw(model, lr=0.1), state(20, checkpoint_seconds=5.0))
    checkpoints.save_best(model, state(20, 20))
    checkpoints.save_evaluated(model, 20)
    assert (checkpoints.spent, checkpoints.cost) == (6.0, 2.0)
    resumed = Checkpoints(tmp_path)
    assert resumed.resume(model, adamw(model, lr=0.1)).step == 20
    resumed.save_best(model, state(20, 20))
    assert resumed.spent == 7.0


def test_only_our_own_unfinished_files_are_removed(tmp_path):
    checkpoints = saved(tmp_path, 10)
    mine = [tmp_path / ".bashrc", tmp_path / ".step-1.part", tmp_path / ".git" / "config"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert resumed(checkpoints) == (10, 10.0)
    assert all(path.read_text() == "mine" for path in mine)


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "home")
    with pytest.raises(InputError, match="is a link"):
        Checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {},
        {"step": 20},
        state(20, step="20"),
        state(20, -1),
        state(20, step=True),
        state(20, tokens=10**30),
        state(20, seconds="1"),
        state(20, seconds=float("nan")),
        state(20, seconds=0.0),
        state(20, checkpoint_seconds=-1.0),
        state(20, history=[1]),
        state(20, history=[{"step": "5", "seconds": 1.0}]),
        state(20, history=[{"step": 5, "seconds": 1.0, "bleu": "x"}]),
        state(20, best_score="high"),
        state(20, best_score=[None]),
    ],
)
def test_a_state_of_something_else_counts_as_damage(tmp_path, content):
    checkpoints = saved(tmp_path, 10)
    write_sealed(tmp_path / "step-00000020.safetensors", {}, {"state": json.dumps(content)})
    with pytest.warns(UserWarning, match=r"step-00000020.safetensors is no checkpoint.*goes on from step 10"):
        assert resumed(checkpoints) == (10, 10.0)


def test_a_state_of_another_version_is_refused_and_stays(tmp_path):
    checkpoints = saved(tmp_path, 10)
    path = tmp_path / "step-00000020.safetensors"
    write_sealed(path, {}, {"state": json.dumps(state(20, mood="good"))})
    with pytest.raises(InputError, match=r"step-00000020.safetensors: its state has \['mood'\]") as raised:
        resumed(checkpoints)
    assert not isinstance(raised.value, DamagedFileError)
    assert path.exists()


def test_an_error_of_the_disk_counts_as_damage_and_no_other_one(tmp_path, monkeypatch):
    checkpoints, number, plain = saved(tmp_path, 10, 20), errno.EACCES, Path.open

    def failing(path, *arguments, **options):
        if path.name == "step-00000020.safetensors":
            raise OSError(number, "fails", str(path))
        return plain(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(PermissionError):
        resumed(checkpoints)
    number = errno.EIO
    with pytest.warns(UserWarning, match="goes on from step 10"):
        assert resumed(checkpoints) == (10, 10.0)
