import pytest
import torch

import train.checkpoint
from minitransformer import InputError, Transformer, TransformerConfig
from minitransformer.optim import adamw
from train.checkpoint import load_checkpoint, save_checkpoint


def small(d_model=8):
    return Transformer(TransformerConfig(9, 9, d_model, 2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1))


def stepped(model):
    optimizer = adamw(model, lr=0.1)
    model(torch.tensor([[4, 5]]), torch.tensor([[2, 4]])).sum().backward()
    optimizer.step()
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

    def half(tensors, temporary, metadata):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train.checkpoint, "save_file", half)
    with pytest.raises(OSError, match="No space"):
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
