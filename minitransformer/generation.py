"""Decoding: one loop for every model that can `start` and `step`.

`model.start(inputs, valid, max_new_tokens=n)` gives the logits (B, V) of the first new token and a state;
`model.step(ids, state)` reads one token per row and gives the logits of the next.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minitransformer.errors import InputError


@runtime_checkable
class Decodable(Protocol):
    """What the loop knows of a model."""

    @property
    def config(self) -> Any: ...

    def start(self, inputs: Tensor, valid: Tensor | None = None, *, max_new_tokens: int) -> tuple[Tensor, Any]: ...

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]: ...


@torch.inference_mode()
def greedy(
    model: Decodable,
    inputs: Int[Tensor, "batch source"],
    valid: Bool[Tensor, "batch source"] | None = None,
    *,
    max_new_tokens: int,
) -> Int[Tensor, "batch new"]:
    """The likeliest token at every step, until each row has ended or `max_new_tokens` are there.

    A row ends in the model's `eos_id`, followed by `pad_id` while others go on. The model should be in
    evaluation mode.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens={max_new_tokens} must be at least 1")
    eos_id, pad_id = model.config.eos_id, model.config.pad_id
    logits, state = model.start(inputs, valid, max_new_tokens=max_new_tokens)
    running = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
    generated = []
    while True:
        ids = torch.where(running, logits.argmax(dim=-1), pad_id)
        generated.append(ids)
        running = running & (ids != eos_id)
        if len(generated) == max_new_tokens or not running.any():
            return torch.stack(generated, dim=1)
        logits, state = model.step(ids, state)
