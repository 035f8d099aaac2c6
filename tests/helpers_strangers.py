"""A small model, and what is said of a file that is refused."""

import json

import pytest

from minitransformer import GPTConfig, InputError

TINY = GPTConfig(vocab_size=7, max_length=8, d_model=8, num_heads=2, num_layers=1, eos_id=0)


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(action, *arguments):
    with pytest.raises(InputError) as caught:
        action(*arguments)
    return str(caught.value)
