"""Pooling: from a vector for each token (B, T, D) to one for each text (B, D), whatever the padding.

The "Attend" of Embed – Encode – Attend – Predict (Honnibal 2016). Padding may stand anywhere; what it holds is never
read. A text without a real token pools to zeros.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.recurrent import ReadMemory


class First(nn.Module):
    """The state of the first real token: BERT's [CLS]."""

    def forward(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch d_model"]:
        return _state_at(valid.int().argmax(dim=1), states, valid)


class Last(nn.Module):
    """The state of the last real token, which in a causal model has seen them all."""

    def forward(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch d_model"]:
        places = torch.arange(valid.shape[1], device=valid.device)
        return _state_at((places * valid).argmax(dim=1), states, valid)


class Mean(nn.Module):
    def forward(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch d_model"]:
        total = states.masked_fill(~valid[:, :, None], 0.0).sum(dim=1)
        return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


class Max(nn.Module):
    """The largest value of each coordinate."""

    def forward(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch d_model"]:
        # The lowest finite number, not -inf: times a zero gradient it stays a number.
        lowest = torch.finfo(states.dtype).min
        return _or_zeros(states.masked_fill(~valid[:, :, None], lowest).amax(dim=1), valid)


class AttentionPooling(nn.Module):
    """The mean of the states weighted by softmax(u · tanh(W h + b)) (Yang et al. 2016, eq. 5–7): additive attention
    whose query u is a parameter.

    u starts at 0, as v in `Additive`: untrained, it is the plain mean. `record_attention` shows the weights, as
    (B, 1, 1, T).
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.project_key = nn.Linear(d_model, d_model)
        self.query = nn.Parameter(torch.zeros(d_model))
        self.read = ReadMemory()

    def forward(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch d_model"]:
        states = states.masked_fill(~valid[:, :, None], 0.0)
        scores = torch.tanh(self.project_key(states)) @ self.query
        return self.read(scores[:, None], states, valid[:, None])[:, 0]


POOLINGS = ("first", "last", "mean", "max", "attention")


def make_pooling(name: str, d_model: int) -> nn.Module:
    """`forward(states, valid)` gives the pooled states; `InputError` for a name that is none of `POOLINGS`."""
    if name not in POOLINGS:
        raise InputError(f"pooling={name!r} is none of {', '.join(POOLINGS)}")
    if name == "attention":
        return AttentionPooling(d_model)
    return {"first": First, "last": Last, "mean": Mean, "max": Max}[name]()


def _state_at(place: Tensor, states: Tensor, valid: Tensor) -> Tensor:
    return _or_zeros(states[torch.arange(len(states), device=states.device), place], valid)


def _or_zeros(pooled: Tensor, valid: Tensor) -> Tensor:
    return pooled.masked_fill(~valid.any(dim=1, keepdim=True), 0.0)
