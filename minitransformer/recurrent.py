"""The attention of recurrent models: a decoder state scores every encoder state, and reads their weighted mean.

`Additive` is Bahdanau's (and Luong's "concat"), `Multiplicative` Luong's "dot" and "general", `Location` the talk's.
They are called alike: `keys = attention.keys(states)` once for each source, then
`attention(query, keys, memory)` for each decoder state or for many of them at once.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minitransformer.attention import AttentionMap
from minitransformer.errors import InputError
from minitransformer.positions import token_positions


class ReadMemory(AttentionMap):
    """Softmax over the scores of real source tokens, then the weighted mean of their states.

    A source without a real token reads as zeros.
    """

    def forward(
        self,
        scores: Float[Tensor, "batch target source"],
        states: Float[Tensor, "batch source memory_dim"],
        valid: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch target memory_dim"]:
        return _masked_softmax(scores, valid) @ states

    def weights(self, scores: Tensor, states: Tensor, valid: Tensor) -> Float[Tensor, "batch 1 target source"]:
        return _masked_softmax(scores, valid)[:, None]


class RecurrentAttention(nn.Module):
    """The part that is common: scores in, context out."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadMemory()

    def keys(self, states: Float[Tensor, "batch source memory_dim"]) -> Float[Tensor, "batch source key_dim"]:
        """What the scores need of the encoder states, computed once for each source."""
        return states

    def scores(
        self,
        query: Float[Tensor, "batch target query_dim"],
        keys: Float[Tensor, "batch source key_dim"],
        valid: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch target source"]:
        raise TypeError(f"{type(self).__name__} does not say how it scores")

    def forward(
        self,
        query: Float[Tensor, "batch target query_dim"],
        keys: Float[Tensor, "batch source key_dim"],
        states: Float[Tensor, "batch source memory_dim"],
        valid: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch target memory_dim"]:
        return self.read(self.scores(query, keys, valid), states, valid)


class Additive(RecurrentAttention):
    """e_ij = vᵀ tanh(W q_i + U h_j) (Bahdanau et al. 2015, A.1.2); Luong's "concat" is the same with [W; U] as one.

    v starts at 0, as in the paper, so that an untrained model attends to all of its source alike.
    """

    def __init__(self, query_dim: int, memory_dim: int, attention_dim: int):
        super().__init__()
        self.project_query = nn.Linear(query_dim, attention_dim, bias=False)
        self.project_key = nn.Linear(memory_dim, attention_dim, bias=False)
        self.v = nn.Parameter(torch.zeros(attention_dim))

    def keys(self, states: Float[Tensor, "batch source memory_dim"]) -> Float[Tensor, "batch source key_dim"]:
        return self.project_key(states)

    def scores(
        self,
        query: Float[Tensor, "batch target query_dim"],
        keys: Float[Tensor, "batch source key_dim"],
        valid: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch target source"]:
        return torch.tanh(self.project_query(query)[:, :, None] + keys[:, None]) @ self.v


class Multiplicative(RecurrentAttention):
    """e_ij = q_iᵀ W h_j, "general" (Luong et al. 2015, eq. 8); without a weight q_iᵀ h_j, "dot"."""

    def __init__(self, query_dim: int, memory_dim: int, *, weighted: bool = True):
        super().__init__()
        if not weighted and query_dim != memory_dim:
            raise InputError(
                f"dot attention compares vectors of one size, but query_dim={query_dim} and memory_dim={memory_dim}: "
                f"use general attention, or an encoder of one direction"
            )
        self.project_key = nn.Linear(memory_dim, query_dim, bias=False) if weighted else nn.Identity()

    def keys(self, states: Float[Tensor, "batch source memory_dim"]) -> Float[Tensor, "batch source key_dim"]:
        return self.project_key(states)

    def scores(
        self,
        query: Float[Tensor, "batch target query_dim"],
        keys: Float[Tensor, "batch source key_dim"],
        valid: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch target source"]:
        return query @ keys.transpose(1, 2)


class Location(RecurrentAttention):
    """e_i = W q_i + b, one score for each place up to `max_length`: it never looks at what stands there.

    The attention of the talk, and of PyTorch's sequence-to-sequence tutorial. A token's place is the number of
    real tokens before it.
    """

    def __init__(self, query_dim: int, max_length: int):
        super().__init__()
        self.score = nn.Linear(query_dim, max_length)

    def scores(
        self,
        query: Float[Tensor, "batch target query_dim"],
        keys: Float[Tensor, "batch source key_dim"],
        valid: Bool[Tensor, "batch source"],
    ) -> Float[Tensor, "batch target source"]:
        if keys.shape[1] > self.score.out_features:
            raise InputError(f"a source of {keys.shape[1]} tokens is longer than max_length={self.score.out_features}")
        place = token_positions(valid)
        place = place[:, None].expand(-1, query.shape[1], -1)
        return self.score(query).gather(2, place)


def _masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    allowed = rearrange(valid, "batch source -> batch 1 source")
    # The lowest finite number instead of -inf: where nothing is allowed, the softmax then has no NaN to give.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(dim=-1).masked_fill(~allowed, 0.0)
