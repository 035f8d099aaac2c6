"""Checkpoints of models in shards: what every process writes, and what of it is noticed to be missing or changed."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers_faults import Child, mount_small_disk, require_mounts
from helpers_processes import together
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from minitransformer import GPT, GPTConfig, InputError
from minitransformer.files import sha256
from minitransformer.optim import adamw, muon
from train.engine.checkpoint import load_checkpoint, read_state, save_checkpoint
from train.engine.checkpoints import Checkpoints
from train.engine.data_parallel import replicate
from train.engine.processes import Processes
from train.engine.sealed import SEAL, DamagedFileError, write_sealed
from train.engine.shards import unsharded

OPTIMIZERS = {"adamw": lambda model: adamw(model, lr=0.1), "muon": lambda model: muon(model, lr=0.1)}


def small():
    torch.manual_seed(0)
    return GPT(GPTConfig(7, 8, 6, 2, num_layers=1, eos_id=0))  # widths that three processes cannot share evenly


def trained(processes, optimizer="adamw"):
    model = small()
    chosen = OPTIMIZERS[optimizer](model)
    replica = replicate(model, chosen, processes, fsdp=processes.world_size > 1)
    replica.backward(replica.loss({"ids": torch.tensor([[1, 2, 3, 4]])})["lm"].total)
    chosen.step()
    return replica.model, chosen


def whole(model, optimizer):
    """All that a checkpoint of it should hold."""
    tensors = {f"model/{name}": tensor for name, tensor in model.named_parameters()}
    for name, parameter in model.named_parameters():
        tensors |= {f"{key}/{name}": value for key, value in optimizer.state[parameter].items()}
    return {name: unsharded(tensor.detach()) for name, tensor in tensors.items()}


def save(path, world_size=2, optimizer="adamw"):
    def work(processes):
        model, chosen = trained(processes, optimizer)
        save_checkpoint(path, model, chosen, {"step": 3})
        return whole(model, chosen)

    return together(world_size, work)[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    save(folder / "step-3.safetensors")
    return folder / "step-3"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("world_size", [2, 3])
def test_what_several_wrote_is_read_by_any_number(tmp_path, optimizer, world_size):
    expected = save(tmp_path / "c.safetensors", world_size, optimizer)
    names = [f"shards/shard-{n:05}-model-00001-of-00001.safetensors" for n in range(1, world_size + 1)]
    files = sorted(str(path.relative_to(tmp_path / "c")) for path in (tmp_path / "c").rglob("*.*"))
    assert files == [*names, "state.safetensors"]
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]

    def read(processes):
        torch.manual_seed(1)
        model = small()
        with torch.no_grad():
            [parameter.fill_(7) for parameter in model.parameters()]
        chosen = OPTIMIZERS[optimizer](model)
        if processes.world_size > 1:
            model = replicate(model, chosen, processes, fsdp=True).model
        assert load_checkpoint(tmp_path / "c", model, chosen) == {"step": 3}
        return whole(model, chosen)

    for found in (read(Processes()), *together(2, read), *together(4, read)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_each_process_writes_its_own_part(written):
    """Together no more than the numbers there are: nothing is gathered, nothing written twice."""
    model, chosen = trained(Processes())
    numbers = sum(tensor.numel() * 4 for tensor in whole(model, chosen).values())
    held = []
    for path in sorted((written / "shards").iterdir()):
        with safe_open(path, "pt") as file:
            held.append(sum(file.get_tensor(name).numel() * 4 for name in file.keys()))  # noqa: SIM118
    assert sum(held) == numbers
    assert max(held) < 0.6 * numbers


@given(data=st.data(), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_of_any_file_is_noticed(written, data, place, flip):
    path = data.draw(st.sampled_from(sorted(written.rglob("*.safetensors"))))
    before = path.read_bytes()
    content = bytearray(before)
    content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    try:
        with pytest.raises(DamagedFileError, match="damaged"):
            read_state(written)
    finally:
        path.write_bytes(before)


def changed(written, tmp_path, change):
    folder = tmp_path / "step-00000003"
    shutil.copytree(written, folder)
    change(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: next((folder / "shards").iterdir()).unlink(), "has 1 files, of the 2 written"),
        (lambda folder: shutil.copy(next((folder / "shards").iterdir()), folder / "shards" / "a"), "3 files, of the 2"),
        (lambda folder: shutil.rmtree(folder / "shards"), "0 files, of the 2"),
        (lambda folder: os.truncate(folder / "state.safetensors", 40), "damaged"),
        (lambda folder: write_sealed(folder / "state.safetensors", {}, {"state": "{}"}), "names no shards"),
        (lambda folder: write_sealed(folder / "state.safetensors", {}, {"shards": "[1]"}), "names no shards"),
    ],
)
def test_a_part_that_is_missing_is_damage_and_the_checkpoint_before_is_used(written, tmp_path, change, message):
    folder = changed(written, tmp_path, change)
    with pytest.raises(DamagedFileError, match=message):
        load_checkpoint(folder, small())
    model = small()
    with pytest.warns(UserWarning, match="starts again from the beginning"):
        assert Checkpoints(tmp_path).resume(model, adamw(model, lr=0.1)) is None
    assert list(tmp_path.iterdir()) == []


def test_one_without_its_state_file_is_damage(written, tmp_path):
    changed(written, tmp_path, lambda folder: (folder / "state.safetensors").unlink())
    model = small()
    with pytest.warns(UserWarning, match="starts again from the beginning"):
        assert Checkpoints(tmp_path).resume(model, adamw(model, lr=0.1)) is None


def resealed(folder, offsets):
    """The first shard with other places in its header, and checksums that hold."""
    path = sorted((folder / "shards").iterdir())[0]
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        places = json.loads(file.metadata()["DCP_SHARDING_INFO"])
    name = "model/embedding.weight"
    places[name]["saved_offsets"] = offsets(places[name]["saved_offsets"])
    save_file(tensors, path, {"DCP_SHARDING_INFO": json.dumps(places), "DCP_VERSION": "1.0", "format": "pt"})
    with safe_open(folder / "state.safetensors", "pt") as file:
        hashes = {shard.name: sha256(shard) for shard in (folder / "shards").iterdir()}
        metadata = file.metadata() | {"shards": json.dumps(hashes)}
    write_sealed(folder / "state.safetensors", {}, metadata)


@pytest.mark.parametrize(
    "offsets",
    [lambda o: [o[0] + 40, 0], lambda o: [3, 0], lambda o: [-1, 0], lambda o: [], lambda o: None, lambda o: ["0", 0]],
)
def test_shards_that_do_not_make_up_a_tensor_are_refused(written, tmp_path, offsets):
    folder = changed(written, tmp_path, lambda folder: resealed(folder, offsets))
    with pytest.raises(InputError):
        load_checkpoint(folder, small())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(24, "Too many open files"), MemoryError()])
def test_what_breaks_in_while_one_is_read_is_no_damage(written, tmp_path, monkeypatch, error):
    changed(written, tmp_path, lambda folder: None)
    make_one_of_a_run(tmp_path / "step-00000003" / "state.safetensors")

    def read_data(*arguments):
        raise error

    monkeypatch.setattr("torch.distributed.checkpoint.HuggingFaceStorageReader.read_data", read_data)
    model = small()
    with pytest.raises(type(error)):
        Checkpoints(tmp_path).resume(model, adamw(model, lr=0.1))
    assert (tmp_path / "step-00000003" / "state.safetensors").exists()


def make_one_of_a_run(path):
    """With a state as the loop's."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != SEAL}  # noqa: SIM118
        metadata = file.metadata() | {"state": json.dumps({"step": 3, "best_step": 0, "seconds": 0.5})}
    write_sealed(path, tensors, metadata)


def test_processes_that_write_to_different_folders_are_refused(tmp_path):
    def work(processes):
        folder = tmp_path / str(processes.rank)
        folder.mkdir()
        os.chdir(folder)
        model, chosen = trained(processes)
        try:
            save_checkpoint(Path("checkpoints/step-1.safetensors"), model, chosen, {"step": 3})
        except InputError as error:
            return str(error)
        except SystemExit as error:
            return error.code

    said, code = together(2, work)
    assert "is not the same for all processes" in said
    assert code == 2
    assert not list(tmp_path.glob("*/checkpoints/*"))


def test_a_folder_in_place_of_a_shard_is_damage(written, tmp_path):
    folder = changed(written, tmp_path, lambda folder: None)
    shard = next((folder / "shards").iterdir())
    shard.unlink()
    shard.mkdir()
    with pytest.raises(DamagedFileError, match="is no file"):
        read_state(folder)


def test_one_of_another_model_is_refused_and_stays(written, tmp_path):
    changed(written, tmp_path, lambda folder: None)
    model = GPT(GPTConfig(9, 8, 6, 2, num_layers=1, eos_id=0))
    with pytest.raises(InputError, match="does not fit the model") as raised:
        load_checkpoint(tmp_path / "step-00000003", model)
    assert not isinstance(raised.value, DamagedFileError)
    assert read_state(tmp_path / "step-00000003") == {"step": 3}


def test_what_a_killed_writer_left_goes_and_nothing_of_anybody_else(tmp_path):
    left = tmp_path / f".step-00000020.{'0a' * 16}.part" / "shards"
    left.mkdir(parents=True)
    (left / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    (tmp_path / ".git").mkdir()
    model = small()
    Checkpoints(tmp_path).resume(model, adamw(model, lr=0.1))
    assert [path.name for path in tmp_path.iterdir()] == [".git"]


def test_a_full_disk_leaves_the_one_before_and_is_said_once(tmp_path):
    require_mounts()
    disk = tmp_path / "disk"
    disk.mkdir()

    def on_a_small_disk():
        mount_small_disk(disk, 400_000)
        save(disk / "step-1.safetensors")
        before = {path: path.read_bytes() for path in disk.rglob("*.safetensors")}
        (disk / "filler").write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 8000))

        def work(processes):
            model, chosen = trained(processes)
            try:
                save_checkpoint(disk / "step-2.safetensors", model, chosen, {"step": 4})
            except OSError as error:
                return [processes.rank, error.errno, error.filename]
            except SystemExit as error:
                return [processes.rank, error.code]

        assert together(2, work) == [[0, 28, str(disk / "step-2")], [1, 2]]
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "step-1"]
        assert all(path.read_bytes() == content for path, content in before.items())

    child = Child(tmp_path / "said", on_a_small_disk)
    assert child.wait() == 0, child.err.read_text()
