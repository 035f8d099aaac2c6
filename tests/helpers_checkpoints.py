"""Saved models and checkpoints, edited and damaged, and what is said of one that is refused."""

import json

import pytest
from safetensors.torch import load_file, save_file

from minitransformer import GPTConfig, InputError

TINY = GPTConfig(vocab_size=7, max_length=8, d_model=8, num_heads=2, num_layers=1, eos_id=0)


def edit_config(folder, **changes):
    """Changes settings in config.json; `...` deletes one."""
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not ...}), encoding="utf-8")


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(action, *arguments):
    with pytest.raises(InputError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(damages, wrong, folder, load):
    """`load` refuses the folder after that one of the damages, {name: (damage, parts of the message)}, in one line."""
    damage, says = damages[wrong]
    damage(folder)
    message = refusal(load, folder)
    assert [part for part in says if part not in message] == []
