"""Pooling: from a vector for each token (B, T, D) to one for each text (B, D).

The "Attend" of Embed – Encode – Attend – Predict (Honnibal 2016). Padding may be anywhere, and its states are never
read. A text without a real token pools to zeros.
"""

from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minitransformer.recurrent import ReadMemory


class Pooling(nn.Module):
    """Calls `pool` with states that are 0 at padding, and sets texts without a real token to 0."""

    def forward(
        self, states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch d_model"]:
        pooled = self.pool(states.masked_fill(~rearrange(valid, "batch time -> batch time 1"), 0.0), valid)
        return pooled.masked_fill(~valid.any(dim=1, keepdim=True), 0.0)

    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError


def _rows(states: Tensor) -> Tensor:
    # Not len(states): it is a plain number, which would fix the batch size of an exported model.
    return torch.arange(states.shape[0], device=states.device)


class First(Pooling):
    """The state of the first real token: BERT's [CLS]."""

    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        return states[_rows(states), valid.int().argmax(dim=1)]


class Last(Pooling):
    """The state of the last real token, which in a causal model has seen them all."""

    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        places = torch.arange(valid.shape[1], device=valid.device)
        return states[_rows(states), (places * valid).argmax(dim=1)]


class Mean(Pooling):
    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        return states.sum(dim=1) / valid.sum(dim=1, keepdim=True).clamp(min=1)


class Max(Pooling):
    """The largest value of each coordinate."""

    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        # The lowest finite number instead of -inf, which times a zero gradient would be NaN.
        lowest = torch.finfo(states.dtype).min
        return states.masked_fill(~rearrange(valid, "batch time -> batch time 1"), lowest).amax(dim=1)


class AttentionPooling(Pooling):
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

    def pool(self, states: Tensor, valid: Tensor) -> Tensor:
        scores = einsum(torch.tanh(self.project_key(states)), self.query, "batch time width, width -> batch time")
        scores, allowed = (rearrange(x, "batch time -> batch 1 time") for x in (scores, valid))
        return rearrange(self.read(scores, states, allowed), "batch 1 width -> batch width")


PoolingName = Literal["first", "last", "mean", "max", "attention"]

POOLINGS: dict[PoolingName, type[Pooling]] = {
    "first": First,
    "last": Last,
    "mean": Mean,
    "max": Max,
    "attention": AttentionPooling,
}
