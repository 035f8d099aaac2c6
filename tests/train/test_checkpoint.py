import os
import random
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from minitransformer import InputError, Transformer, TransformerConfig
from minitransformer.optim import adamw, muon
from train.engine.checkpoint import load_checkpoint, read_state, save_checkpoint
from train.engine.sealed import SEAL, DamagedFileError, check_seal, write_sealed


def small(d_model=8):
    return Transformer(TransformerConfig(9, 9, d_model, 2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1))


def step_once(model, optimizer):
    optimizer.zero_grad()
    model(torch.tensor([[4, 5]]), torch.tensor([[2, 4]])).sum().backward()
    optimizer.step()


def stepped(model):
    optimizer = adamw(model, lr=0.1)
    step_once(model, optimizer)
    return optimizer


def test_weights_optimizer_and_random_state_come_back(tmp_path):
    model = small()
    optimizer = stepped(model)
    save_checkpoint(tmp_path / "c.safetensors", model, optimizer, {"step": 7})
    drawn = torch.rand(3)
    other = small()
    other_optimizer = adamw(other, lr=0.1)
    assert load_checkpoint(tmp_path / "c.safetensors", other, other_optimizer) == {"step": 7}
    assert torch.equal(torch.rand(3), drawn)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for key, value in optimizer.state[ours].items():
            assert torch.equal(value, other_optimizer.state[theirs][key])


def test_a_failed_write_leaves_the_old_checkpoint_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    model = small()
    save_checkpoint(path, model, None, {"step": 1})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        save_checkpoint(path, model, None, {"step": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, small(), None, {})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path, small())


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", small(16), None, {})
    with pytest.raises(InputError, match="does not fit the model"):
        load_checkpoint(tmp_path / "c.safetensors", small(8))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "c.safetensors"
    save_checkpoint(path, small(), None, {"step": 3})
    return path


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_is_noticed(written, place, flip):
    data = bytearray(written.read_bytes())
    data[int(place * len(data))] ^= flip
    changed = written.with_name("changed")
    changed.write_bytes(data)
    with pytest.raises(DamagedFileError, match="damaged"):
        read_state(changed)


def test_bytes_after_the_end_are_noticed(written):
    longer = written.with_name("longer")
    longer.write_bytes(written.read_bytes() + b"more")
    with pytest.raises(DamagedFileError):
        check_seal(longer)


def test_a_sealed_file_is_a_safetensors_file_of_every_kind_of_tensor(tmp_path):
    kinds = (torch.float64, torch.int64, torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int16,
             torch.int8, torch.uint8, torch.bool)  # fmt: skip
    tensors = {str(kind): (torch.arange(6) % 2).to(kind).reshape(2, 3).T for kind in kinds}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "name with é": torch.ones(1)}
    write_sealed(tmp_path / "ours", tensors, {"why": "é"})
    read = load_file(tmp_path / "ours")
    assert read.pop(SEAL).shape == (32,)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_the_random_states_of_python_and_torch_come_back(tmp_path, monkeypatch):
    model = small()
    random.gauss(0, 1)  # leaves half a pair behind
    now, put_back = random.getstate(), []
    # Not by drawing: the checks of types at run time draw as well.
    monkeypatch.setattr(random, "getstate", lambda: now)
    monkeypatch.setattr(random, "setstate", put_back.append)
    save_checkpoint(tmp_path / "c.safetensors", model, stepped(model), {})
    drawn = torch.rand(2)
    other = small()
    load_checkpoint(tmp_path / "c.safetensors", other, adamw(other, lr=0.1))
    assert put_back == [now]
    assert torch.equal(torch.rand(2), drawn)


def test_each_tensor_is_in_place_before_the_next_is_read(tmp_path, monkeypatch):
    """So that a model's numbers are never in memory twice."""
    path, saved = tmp_path / "c.safetensors", small()
    save_checkpoint(path, saved, stepped(saved), {})
    model = small()
    optimizer, read = adamw(model, lr=0.1), []

    class Watched:
        def __init__(self, *arguments, **options):
            self.file = safe_open(*arguments, **options)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def get_tensor(self, name):
            tensor = self.file.get_tensor(name)
            if name.partition("/")[0] in ("model", "optimizer"):
                assert all(before() is None for before in read)
                read.append(weakref.ref(tensor))
            return tensor

    monkeypatch.setattr("train.engine.sealed.safe_open", Watched)
    load_checkpoint(path, model, optimizer)
    assert len(read) == 4 * len(list(model.parameters()))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "momentum"])
def test_the_state_of_every_optimizer_comes_back(tmp_path, optimizer):
    new = {
        "adamw": lambda model: adamw(model, lr=0.1),
        "muon": lambda model: muon(model, lr=0.1),
        "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    }[optimizer]
    one, other = small().eval(), small().eval()  # without dropout
    ours, theirs = new(one), new(other)
    for step in range(3):
        step_once(one, ours)
        if step == 1:
            save_checkpoint(tmp_path / "c.safetensors", one, ours, {})
            load_checkpoint(tmp_path / "c.safetensors", other, theirs)
    step_once(other, theirs)
    for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_optimizer_state_that_does_not_fit_is_refused_before_anything_changes(tmp_path):
    """A fused AdamW would read past the end of a moment of one number."""
    path = tmp_path / "c.safetensors"
    model = small()
    save_checkpoint(path, model, stepped(model), {})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    whole = {name: tensor for name, tensor in load_file(path).items() if name != SEAL}
    moment = next(name for name in whole if name.startswith("optimizer/exp_avg/"))
    parameter = moment.removeprefix("optimizer/exp_avg/")
    changes = [
        {moment: torch.ones(1)},
        {moment: torch.tensor(1.0)},
        {moment: whole[moment].long()},
        {moment: None},
        {name: None for name in whole if "/exp_avg" in name},
        {name.replace("exp_avg/", "momentum_buffer/"): t for name, t in whole.items()}
        | {name: None for name in whole if name.startswith("optimizer/")},
        {f"optimizer/step/{parameter}": torch.ones(2)},
        {"optimizer/exp_avg/of nothing": torch.ones(1)},
        {"random/0/cpu": torch.ones(3, dtype=torch.uint8)},
    ]
    other = small()
    optimizer = adamw(other, lr=0.1)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    for change in changes:
        write_sealed(path, {name: t for name, t in (whole | change).items() if t is not None}, metadata)
        with pytest.raises(DamagedFileError, match="is no checkpoint of such a run"):
            load_checkpoint(path, other, optimizer)
        assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
        assert not optimizer.state
        assert torch.equal(torch.get_rng_state(), drawn)
