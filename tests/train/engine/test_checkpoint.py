"""What is in a checkpoint, and how it lies on disk: of one process, and of several that share a model in shards."""

import hashlib
import json
import os
import random
import re
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from helpers_processes import together
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from minitransformer import GPT, GPTConfig, InputError
from minitransformer.optim import adamw, muon
from train.engine.checkpoint import load_checkpoint, save_checkpoint
from train.engine.data_parallel import replicate, unsharded
from train.engine.processes import Processes
from train.engine.tensor_folder import CHECKSUMS, VALUES, DamagedError, require_undamaged

OPTIMIZERS = {
    "adamw": lambda model: adamw(model, lr=0.1),
    "muon": lambda model: muon(model, lr=0.1),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
}


def small(width=6):
    torch.manual_seed(0)
    return GPT(GPTConfig(7, 8, width, 2, num_layers=1, eos_id=0))  # 6: three processes cannot share that evenly


def step_once(replica, optimizer):
    optimizer.zero_grad()
    replica.backward(replica.loss({"ids": torch.tensor([[1, 2, 3, 4]])})["lm"].total)
    optimizer.step()


def trained(processes, optimizer="adamw"):
    model = small()
    chosen = OPTIMIZERS[optimizer](model)
    replica = replicate(model, chosen, processes, fsdp=processes.world_size > 1)
    step_once(replica, chosen)
    return replica.model, chosen


def whole(model, optimizer):
    """All tensors that a checkpoint should hold."""
    tensors = {f"model/{name}": tensor for name, tensor in model.named_parameters()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{key}/{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
    return {name: unsharded(tensor.detach()).clone() for name, tensor in tensors.items()}


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def written(request, tmp_path_factory):
    """A checkpoint of one process, and one of two that share a model in shards."""
    folder = tmp_path_factory.mktemp("checkpoints") / "step-00000003"

    def write(processes):
        save_checkpoint(folder, *trained(processes), {"step": 3})

    together(2, write) if request.param == 2 else write(Processes())
    return folder


@pytest.fixture
def copied(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / written.name))


@pytest.mark.parametrize(
    ("optimizers", "world_size"),
    [(OPTIMIZERS, 1), (["muon"], 2), pytest.param(["adamw"], 3, marks=pytest.mark.slow)],
)
def test_what_some_processes_wrote_is_read_by_any_number(tmp_path, optimizers, world_size):
    def write(processes):
        expected = {}
        for name in optimizers:
            model, chosen = trained(processes, name)
            save_checkpoint(tmp_path / name, model, chosen, {"step": 3})
            expected[name] = whole(model, chosen)
        return expected

    def read(processes):
        found = {}
        for name in optimizers:
            model = small()
            with torch.no_grad():
                [parameter.fill_(7) for parameter in model.parameters()]
            chosen = OPTIMIZERS[name](model)
            if processes.world_size > 1:
                model = replicate(model, chosen, processes, fsdp=True).model
            require_undamaged(tmp_path / name)
            assert load_checkpoint(tmp_path / name, model, chosen) == {"step": 3}
            found[name] = whole(model, chosen)
        return found

    expected = (together(world_size, write) if world_size > 1 else [write(Processes())])[0]
    assert {path.name for path in tmp_path.iterdir()} == set(optimizers)
    for found in (read(Processes()), *together(2, read), *(together(4, read) if world_size == 3 else [])):
        for name, tensors in expected.items():
            assert found[name].keys() == tensors.keys()
            assert all(torch.equal(tensor, tensors[key]) for key, tensor in found[name].items())


def test_its_files_are_plain_safetensors_json_and_checksums(written):
    sharded = not (written / "model.safetensors").exists()
    parts = ["-00001-of-00002", "-00002-of-00002"] if sharded else [""]
    tensors = sorted(f"{group}{part}.safetensors" for group in ("model", "optimizer") for part in parts)
    assert sorted(path.name for path in written.iterdir()) == sorted([CHECKSUMS, VALUES, *tensors])
    listed = dict(reversed(line.split("  ")) for line in (written / CHECKSUMS).read_text().splitlines())
    assert listed == {name: hashlib.sha256((written / name).read_bytes()).hexdigest() for name in [*tensors, VALUES]}
    assert json.loads((written / VALUES).read_text())["state"] == {"step": 3}
    held = [sum(tensor.numel() for tensor in load_file(written / name).values()) for name in tensors]
    model, optimizer = trained(Processes())
    assert sum(held) == sum(tensor.numel() for tensor in whole(model, optimizer).values())  # nothing is there twice
    if sharded:
        assert max(held) < 0.5 * sum(held)


def test_random_states_come_back(tmp_path, monkeypatch):
    random.gauss(0, 1)  # leaves half a pair behind
    now, put_back = random.getstate(), []
    # Not by drawing: the checks of types at run time draw as well.
    monkeypatch.setattr(random, "getstate", lambda: now)
    monkeypatch.setattr(random, "setstate", put_back.append)
    model, optimizer = trained(Processes())
    save_checkpoint(tmp_path / "c", model, optimizer, {})
    drawn = torch.rand(2)
    load_checkpoint(tmp_path / "c", model, optimizer)
    assert put_back == [now]
    assert torch.equal(torch.rand(2), drawn)


@given(data=st.data(), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_of_any_file_is_noticed(written, data, place, flip):
    path = data.draw(st.sampled_from(sorted(written.iterdir())))
    before = path.read_bytes()
    content = bytearray(before)
    content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    try:
        with pytest.raises(DamagedError, match="damaged"):
            require_undamaged(written)
    finally:
        path.write_bytes(before)


def put_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def put_a_link(path):
    path.symlink_to(path.rename(path.parents[1] / "elsewhere"))


DAMAGE = {
    "is cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "is empty": lambda path: os.truncate(path, 0),
    "is longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "is missing": lambda path: path.unlink(),
    "is there twice": lambda path: shutil.copy(path, path.with_name("another")),
    "is a folder": lambda path: (path.unlink(), path.mkdir()),
    "is a pipe": put_a_pipe,
    "is a link": put_a_link,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_is_noticed(copied, damage):
    for name in [path.name for path in copied.iterdir()]:
        folder = shutil.copytree(copied, copied.parent / "damaged")
        DAMAGE[damage](folder / name)
        with pytest.raises(DamagedError, match=r"is damaged|is not a plain file"):
            require_undamaged(folder)
        shutil.rmtree(folder)
        (copied.parent / "elsewhere").unlink(missing_ok=True)


def test_a_missing_or_empty_folder_or_a_link_is_damage(copied):
    (copied.parent / "link").symlink_to(copied)
    (copied.parent / "empty").mkdir()
    for name, message in (("link", "is not a folder"), ("none", "is missing"), ("empty", "it holds nothing")):
        with pytest.raises(DamagedError, match=message):
            require_undamaged(copied.parent / name)


def refused_unchanged(folder, model, optimizer):
    """The message of a checkpoint that is refused before anything changes."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.get_rng_state()
    with pytest.raises(InputError) as raised:
        load_checkpoint(folder, model, optimizer)
    assert not isinstance(raised.value, DamagedError)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not optimizer.state
    assert torch.equal(torch.get_rng_state(), drawn)
    return str(raised.value)


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(written):
    model = small(8)
    assert "does not fit the model" in refused_unchanged(written, model, adamw(model, lr=0.1))
    model = small()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert "the optimizer does not keep exp_avg" in refused_unchanged(written, model, sgd)


MOMENT = "exp_avg/embedding.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda moments: {MOMENT: torch.ones(1)},  # a fused AdamW would read past its end
        lambda moments: {MOMENT: torch.tensor(1.0)},
        lambda moments: {MOMENT: moments[MOMENT].long()},
        lambda moments: {MOMENT: None},
        lambda moments: {MOMENT: torch.cat([moments[MOMENT]] * 2)},
        lambda moments: {MOMENT: moments[MOMENT][:0]},
        lambda moments: {MOMENT: moments[MOMENT].mT},
        lambda moments: {name: None for name in moments if "exp_avg" in name},
        lambda moments: {"step/embedding.weight": torch.ones(2)},
        lambda moments: {"exp_avg/of nothing": torch.ones(1)},
    ],
)
def test_optimizer_state_that_does_not_fit_is_refused_before_anything_changes(copied, change):
    """A made-up checkpoint, or one of another version: its checksums hold."""
    path = min(copied.glob("optimizer*"))
    moments = load_file(path)
    save_file({name: t.contiguous() for name, t in (moments | change(moments)).items() if t is not None}, path)
    model = small()
    assert "does not fit this run" in refused_unchanged(copied, model, adamw(model, lr=0.1))


@pytest.mark.parametrize(
    "values",
    [[1], {}, {"state": 1}, {"state": {}}, {"state": {}, "random": 3}]
    + [{"state": {}, "random": [{"python": python, "cpu": cpu}]} for python, cpu in [("1", ""), ("[3, [1], 0]", "00")]],
)
def test_made_up_values_are_refused_before_anything_changes(copied, values):
    (copied / VALUES).write_text(json.dumps(values))
    model = small()
    refused_unchanged(copied, model, adamw(model, lr=0.1))


def test_each_tensor_is_in_place_before_the_next_is_read(copied, monkeypatch):
    """So that a model's numbers are never in memory twice: files are memory-mapped, parts joined one by one."""
    joined, alive = [], []
    plain = torch.cat

    def cat(parts, *more, **options):
        tensor = plain(parts, *more, **options)
        if tensor.device.type != "meta":
            alive.append(sum(before() is not None for before in joined))
            joined.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(torch, "cat", cat)
    model = small()
    load_checkpoint(copied, model, adamw(model, lr=0.1))
    assert max(alive, default=0) <= 1


def outcomes_of_saving(folder_of):
    """What saving raises in each of two processes: the message of an error, or the code of an exit without one."""

    def work(processes):
        model, optimizer = trained(processes)
        try:
            save_checkpoint(folder_of(processes.rank), model, optimizer, {"step": 4})
        except (InputError, OSError) as error:
            return str(error)
        except SystemExit as error:
            return error.code

    return together(2, work)


def test_a_failed_write_leaves_the_old_checkpoint_and_no_debris_and_is_reported_once(copied, monkeypatch):
    before = {path: path.read_bytes() for path in copied.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = f"[Errno 28] No space left on device: '{copied}'"
    assert outcomes_of_saving(lambda rank: copied) == [message, 2]
    with pytest.raises(OSError, match=re.escape(message)):
        save_checkpoint(copied, small(), None, {"step": 2})
    assert {path: path.read_bytes() for path in copied.iterdir()} == before
    assert list(copied.parent.iterdir()) == [copied]


def test_processes_that_write_to_different_folders_are_refused(tmp_path):
    def in_its_own(rank):
        (tmp_path / str(rank)).mkdir()
        os.chdir(tmp_path / str(rank))
        return Path("checkpoints/step-1")

    code, message = outcomes_of_saving(in_its_own)
    assert code == 2
    assert "is not the same for all processes" in message
    assert not list(tmp_path.glob("*/checkpoints/*"))
