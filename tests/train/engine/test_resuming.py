"""Which checkpoint a run resumes from, whatever has happened to its files, and which checkpoints are kept."""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from helpers_processes import together

from minitransformer import GPT, GPTConfig, InputError
from minitransformer.optim import adamw
from train.engine.data_parallel import replicate, unsharded
from train.engine.processes import Processes
from train.engine.resuming import Checkpoints
from train.engine.settings import RunOptions
from train.engine.state import State
from train.engine.tensor_folder import CHECKSUMS, VALUES, DamagedError, require_undamaged


def model_of(value=0.0, processes=None, width=4):
    """A model whose first weight is `value`, as it is trained: in shards if there are several processes."""
    model = GPT(GPTConfig(5, 8, width, 2, num_layers=1, eos_id=0))
    torch.nn.init.constant_(model.embedding.weight, value)
    optimizer = adamw(model, lr=0.1)
    return replicate(model, optimizer, processes or Processes(), fsdp=processes is not None).model, optimizer


def value_of(model):
    return unsharded(model.embedding.weight.detach())[0, 0].item()


def state(step, best_step=0, /, **changes):
    best_score = [1.0] if best_step else None
    return dataclasses.asdict(State(step=step, best_step=best_step, best_score=best_score, seconds=0.5)) | changes


def saved(folder, *steps, best=(), keep=2, processes=None, run_id="", **changes):
    """A run with a checkpoint at each of `steps`, and best weights at others; weights equal the step."""
    checkpoints, best_step = Checkpoints(folder, RunOptions(keep_checkpoints=keep, run_id=run_id)), 0
    for step in sorted({*steps, *best}):
        model, optimizer = model_of(step, processes)
        if step in best:
            best_step = step
            checkpoints.save_weights(model, step)
        if step in steps:
            checkpoints.save(model, optimizer, state(step, best_step, run_id=run_id, **changes))
    return checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def resumed(folder, processes=None, run_id=""):
    """Step, value of the weights, step and value of the best weights."""
    checkpoints = Checkpoints(folder, RunOptions(run_id=run_id))
    model, optimizer = model_of(7.0, processes)
    found = checkpoints.resume(model, optimizer)
    if found is None:
        return (0, value_of(model), None, None)
    step, value, best = found.step, value_of(model), found.best_step or None
    if best:
        checkpoints.load_weights(model, best)
    return (step, value, best, value_of(model) if best else None)


FAULTS = {
    "cut short": lambda folder: os.truncate(min(folder.glob("model*")), 40),
    "missing": shutil.rmtree,
    "a link": lambda folder: folder.symlink_to(folder.rename(folder.parents[1] / f"elsewhere {folder.name}")),
}
FROM_10, FROM_START = "20.* and the run resumes from step 10", "and the run starts from the beginning"
BEST_LOST = "step {}, are lost; those of step {} count as the best, until the next evaluation"
# Of steps 10 and 20 with best weights 5 and 15, what is lost: where the run resumes, with which best weights, and what
# it warns of.
LOST = {
    ("step-00000020",): ((10, 10.0, 5, 5.0), [FROM_10]),
    ("evaluated-00000015",): ((20, 20.0, 20, 20.0), [BEST_LOST.format(15, 20)]),
    ("evaluated-00000005",): ((20, 20.0, 15, 15.0), []),
    ("step-00000010",): ((20, 20.0, 15, 15.0), []),
    ("step-00000020", "evaluated-00000015"): ((10, 10.0, 5, 5.0), [FROM_10]),
    ("step-00000020", "evaluated-00000005"): ((10, 10.0, 10, 10.0), [FROM_10, BEST_LOST.format(5, 10)]),
    ("evaluated-00000005", "evaluated-00000015"): ((20, 20.0, 20, 20.0), [BEST_LOST.format(15, 20)]),
    ("step-00000010", "step-00000020"): ((0, 7.0, None, None), [f"20.*{FROM_START}", f"10.*{FROM_START}"]),
}


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def world(request, tmp_path_factory):
    """A number of processes and the checkpoints that so many wrote."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"

    def work(processes):
        saved(folder, 10, 20, best=(5, 15), processes=processes if request.param > 1 else None)

    together(2, work) if request.param == 2 else work(Processes())
    return request.param, folder


def contents(folder):
    return {
        path.name: {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
        for path in folder.iterdir()
    }


@pytest.mark.parametrize("lost", LOST, ids="+".join)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_resumes_from_the_newest_undamaged_checkpoint_and_deletes_nothing_undamaged(
    world, tmp_path, fault, lost, recwarn
):
    world_size, source = world
    folder = Path(shutil.copytree(source, tmp_path / "checkpoints"))
    for name in lost:
        FAULTS[fault](folder / name)
    expected, messages = LOST[lost]
    if world_size == 2 and fault == "cut short":
        assert set(together(2, lambda processes: resumed(folder, processes))) == {expected}
    else:
        assert resumed(folder) == expected
        messages = [message for message in messages if fault != "missing" or "are lost" in message]
        warned = [str(warning.message) for warning in recwarn.list]
        assert all(re.search(*pair) for pair in zip(messages, warned, strict=True)), warned
    before, after = contents(source), contents(folder)
    undamaged = [name for name in before if name not in lost]
    assert [name for name in undamaged if after.get(name) != before[name]] == [
        name for name in undamaged if name == f"evaluated-{expected[0]:08}"
    ]


def test_a_damaged_checkpoint_is_set_aside_every_time(tmp_path):
    saved(tmp_path, 10)
    for number in (1, 2):
        saved(tmp_path, 20)
        FAULTS["cut short"](tmp_path / "step-00000020")
        with pytest.warns(UserWarning, match=f"it is kept as .*damaged-step-00000020-{number}"):
            assert resumed(tmp_path)[0] == 10
    assert names(tmp_path) == ["damaged-step-00000020-1", "damaged-step-00000020-2", "step-00000010"]


def test_the_checkpoints_of_another_run_are_not_taken_for_its_own(tmp_path, recwarn):
    """Or of another step. They are of the same model, and undamaged."""
    for run_id, best in (("mine", 5), ("other", 15)):
        saved(tmp_path / run_id, 10, 20, best=(best,), run_id=run_id)
    mine, other = tmp_path / "mine", tmp_path / "other"
    shutil.copytree(other / "evaluated-00000015", mine / "evaluated-00000005", dirs_exist_ok=True)
    assert resumed(mine, run_id="mine") == (20, 20.0, 20, 20.0)
    assert re.search(
        "evaluated-00000005 is of another run or another step: the best weights", str(recwarn.pop().message)
    )
    for source in (other / "step-00000020", mine / "step-00000020"):
        shutil.copytree(source, mine / "step-00000030")
        with pytest.raises(InputError, match="step-00000030 is of another run or another step: move it away"):
            resumed(mine, run_id="mine")
        shutil.rmtree(mine / "step-00000030")


def test_best_weights_of_steps_that_are_repeated_are_not_taken_for_the_best(tmp_path):
    """Killed after it had written better weights, before a checkpoint named them."""
    checkpoints = saved(tmp_path, 10, best=(5, 12))
    assert resumed(tmp_path) == (10, 10.0, 5, 5.0)
    assert names(tmp_path) == ["evaluated-00000005", "evaluated-00000012", "step-00000010"]
    # With --minutes the repeated steps may be evaluated elsewhere: 12 is never written again.
    for step in (20, 30):
        checkpoints.save(*model_of(step), state(step, 5))
    assert names(tmp_path) == ["evaluated-00000005", "step-00000020", "step-00000030"]


def test_the_latest_are_kept_and_the_best_weights_that_each_names(tmp_path):
    for keep in (1, 2, 3):
        saved(tmp_path / str(keep), 10, 20, 30, 40, best=(5, 15, 25), keep=keep)
    assert names(tmp_path / "1") == ["evaluated-00000025", "step-00000040"]
    assert names(tmp_path / "2") == ["evaluated-00000025", "step-00000030", "step-00000040"]
    assert names(tmp_path / "3") == [
        "evaluated-00000015",
        "evaluated-00000025",
        *(f"step-000000{n}" for n in (20, 30, 40)),
    ]


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: (path.unlink(), os.mkfifo(path))])
def test_best_weights_stay_while_a_kept_checkpoint_cannot_say_which_it_needs(tmp_path, damage):
    checkpoints = saved(tmp_path, 10, 20, best=(5, 15))
    damage(tmp_path / "step-00000020" / VALUES)
    checkpoints.save(*model_of(30), state(30, 15))
    assert names(tmp_path) == ["evaluated-00000005", "evaluated-00000015", "step-00000020", "step-00000030"]


def test_only_our_own_unfinished_folders_are_removed(tmp_path):
    saved(tmp_path, 10)
    half = tmp_path / f".step-00000020.{'0a' * 16}.part"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"what a killed process left")
    mine = [tmp_path / ".bashrc", tmp_path / ".step-1.part", tmp_path / ".git" / "config", tmp_path / "step-1" / "x"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert resumed(tmp_path)[0] == 10
    assert not half.exists()
    assert all(path.read_text() == "mine" for path in mine)


def made_up(folder, content):
    """A checkpoint with another state, and checksums that hold."""
    values = json.loads((folder / VALUES).read_text()) | {"state": content}
    (folder / VALUES).write_text(json.dumps(values))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / CHECKSUMS).write_text("".join(line for line in sums if CHECKSUMS not in line))
    require_undamaged(folder)


MADE_UP = [
    [1],
    {},
    {"step": 20},
    *(state(20, **{name: value}) for name, value in [("step", "20"), ("step", True), ("step", 0), ("best_step", -1)]),
    *(state(20, tokens=value) for value in (10**30, -1, 1.5)),
    *(state(20, seconds=value) for value in ("1", 0.0, -1.0, float("nan"), float("inf"))),
    *(state(20, history=[value]) for value in (1, {}, {"step": "5", "seconds": 1.0}, {"step": 5, "seconds": "1"})),
    state(20, history=[{"step": 5, "seconds": 1.0, "bleu": "x"}]),
    state(20, checkpoint_seconds=-1.0),
    state(20, best_score="high"),
    state(20, best_score=[None]),
    state(20, mood="good"),
]


@pytest.mark.parametrize("content", MADE_UP)
def test_a_checkpoint_that_is_made_up_or_of_another_version_is_refused_and_stays(tmp_path, content):
    saved(tmp_path, 10, 20)
    made_up(tmp_path / "step-00000020", content)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="step-00000020") as raised:
        resumed(tmp_path)
    assert not isinstance(raised.value, DamagedError)
    assert contents(tmp_path) == before


def test_an_error_of_the_disk_counts_as_damage_and_no_other_error(tmp_path, monkeypatch):
    saved(tmp_path, 10, 20)
    number, plain = errno.EACCES, os.open

    def failing(path, *arguments, **options):
        path = Path(path)
        if path.parent.name == "step-00000020" and path.suffix == ".safetensors":
            raise OSError(number, "fails", str(path))
        return plain(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(PermissionError):
        resumed(tmp_path)
    number = errno.EIO
    with pytest.warns(UserWarning, match="resumes from step 10"):
        assert resumed(tmp_path)[0] == 10
    assert names(tmp_path) == ["damaged-step-00000020-1", "step-00000010"]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), OSError(24, "Too many open files"), MemoryError()])
def test_a_checkpoint_that_is_of_another_model_or_whose_reading_was_interrupted_stays(tmp_path, monkeypatch, error):
    saved(tmp_path, 10, 20)
    before = contents(tmp_path)

    def read_safetensors(path):
        raise error

    if error is not None:
        monkeypatch.setattr("train.engine.tensor_folder.read_safetensors", read_safetensors)
    with pytest.raises(InputError if error is None else type(error), match=None if error else "does not fit"):
        Checkpoints(tmp_path).resume(*model_of(width=6))
    assert contents(tmp_path) == before


def test_checkpoints_of_an_earlier_version_and_links_are_refused(tmp_path):
    (tmp_path / "step-00000010.safetensors").write_bytes(b"old")
    with pytest.raises(InputError, match=r"step-00000010.safetensors is a checkpoint of an earlier version"):
        resumed(tmp_path)
    (tmp_path / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(InputError, match="is a link"):
        Checkpoints(tmp_path / "checkpoints")


def test_writing_takes_at_most_a_hundredth_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path)
    for seconds, cost, due in [(59, 0, False), (61, 0, True), (199, 2.0, False), (201, 2.0, True)]:
        now[0], checkpoints.cost = seconds, cost
        assert checkpoints.due() == due
    assert Checkpoints(tmp_path, RunOptions(checkpoint_seconds=0.0)).due()


def test_what_writing_takes_is_counted_for_the_whole_run(tmp_path, monkeypatch):
    now, plain = [0.0], os.fsync

    def fsync(descriptor):
        now[0] += 0.25
        plain(descriptor)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", fsync)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_weights(model_of()[0], 20)
    checkpoints.save(*model_of(), state(20, 20, checkpoint_seconds=5.0))
    assert checkpoints.spent == now[0] > checkpoints.cost > 0
    resumed = Checkpoints(tmp_path)
    resumed.resume(*model_of())
    assert resumed.spent == 5.0
