"""The attention of recurrent models: a decoder state scores every encoder state, and reads their weighted mean.

`Additive` is Bahdanau's (and Luong's "concat"), `Multiplicative` Luong's "dot" and "general", `Location` the talk's;
`Local` narrows any of them to a window. All have one interface: `keys = attention.keys(states)` once per source, then
`attention(query, keys, states, valid)` for one decoder state or many.
"""

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minitransformer.attention import AttentionMap
from minitransformer.checks import require_number
from minitransformer.errors import InputError
from minitransformer.positions import token_positions

Query = Float[Tensor, "batch target query_dim"]
Keys = Float[Tensor, "batch source key_dim"]
States = Float[Tensor, "batch source memory_dim"]
Valid = Bool[Tensor, "batch source"]
Scores = Float[Tensor, "batch target source"]


class ReadMemory(AttentionMap):
    """Softmax over the scores of the source tokens that are `allowed`, then the weighted sum of their states.

    A query that may look at nothing reads zeros. `factor` scales the weights after the softmax.
    """

    def forward(
        self,
        scores: Scores,
        states: States,
        allowed: Bool[Tensor, "batch #target source"],
        factor: Scores | None = None,
    ) -> Float[Tensor, "batch target memory_dim"]:
        weights = _weights(scores, allowed, factor)
        return weights @ states.to(weights.dtype)

    def weights(
        self, scores: Tensor, states: Tensor, allowed: Tensor, factor: Tensor | None = None
    ) -> Float[Tensor, "batch 1 target source"]:
        return rearrange(_weights(scores, allowed, factor), "batch target source -> batch 1 target source")


class RecurrentAttention(nn.Module):
    """Scores in, context out: what all kinds share."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadMemory()

    def keys(self, states: States) -> Keys:
        """What the scores need of the encoder states, computed once per source."""
        return states

    def scores(self, query: Query, keys: Keys, valid: Valid) -> Scores:
        raise TypeError(f"{type(self).__name__} does not say how it scores")

    def forward(
        self, query: Query, keys: Keys, states: States, valid: Valid, *, position: int = 0
    ) -> Float[Tensor, "batch target memory_dim"]:
        """`position` is the number of target tokens before the first query; only `Local` uses it."""
        return self.read(self.scores(query, keys, valid), states, rearrange(valid, "batch source -> batch 1 source"))


class Additive(RecurrentAttention):
    """e_ij = vᵀ tanh(W q_i + U h_j) (Bahdanau et al. 2015, A.1.2); Luong's "concat" is the same with [W; U] as one.

    v starts at 0, as in the paper: an untrained model attends to all source tokens equally.
    """

    def __init__(self, query_dim: int, memory_dim: int, attention_dim: int):
        super().__init__()
        self.project_query = nn.Linear(query_dim, attention_dim, bias=False)
        self.project_key = nn.Linear(memory_dim, attention_dim, bias=False)
        self.v = nn.Parameter(torch.zeros(attention_dim))

    def keys(self, states: States) -> Keys:
        return self.project_key(states)

    def scores(self, query: Query, keys: Keys, valid: Valid) -> Scores:
        # tanh(x) = 2 σ(2x) - 1, and torch's sigmoid is four times as fast as its tanh on a CPU. One target at a time:
        # the sums for all of them at once would not fit in the CPU's cache.
        query, keys, v = 2 * self.project_query(query), 2 * keys, self.v.to(keys.dtype)
        scores = [torch.sigmoid(each + keys) @ (2 * v) for each in query.split(1, dim=1)]
        return torch.stack(scores, dim=1) - v.sum()


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

    def keys(self, states: States) -> Keys:
        return self.project_key(states)

    def scores(self, query: Query, keys: Keys, valid: Valid) -> Scores:
        return einsum(query, keys, "batch target dim, batch source dim -> batch target source")


class Location(RecurrentAttention):
    """e_i = W q_i + b, one score for each place up to `max_length`, whichever token stands there.

    The attention of the talk, and of PyTorch's sequence-to-sequence tutorial. A token's place is the number of
    real tokens before it.
    """

    def __init__(self, query_dim: int, max_length: int):
        super().__init__()
        self.score = nn.Linear(query_dim, max_length)

    def scores(self, query: Query, keys: Keys, valid: Valid) -> Scores:
        if keys.shape[1] > self.score.out_features:
            raise InputError(f"a source of {keys.shape[1]} tokens is longer than max_length={self.score.out_features}")
        place = repeat(token_positions(valid), "batch source -> batch target source", target=query.shape[1])
        return self.score(query).gather(2, place)


class Local(RecurrentAttention):
    """The attention of `scorer` within `window` tokens of a place p_t in the source (Luong et al. 2015, section 3.2).

    "local-m": p_t = t, the target's own place. With `predictive`, "local-p": p_t = S σ(vᵀ tanh(W q_t)) in a source of
    S real tokens, and the weights, after their softmax over the window, are multiplied by
    exp(-(s - p_t)² / 2σ²), σ = window / 2: their sum is below 1. Places count real tokens from 0. p_t stays real, and
    the window is ``|s - p_t| <= window``. v starts at 0: p_t is then the middle of the source.
    """

    def __init__(self, scorer: RecurrentAttention, query_dim: int, window: int, *, predictive: bool):
        super().__init__()
        require_number("window", window, at_least=1)
        self.scorer, self.window = scorer, window
        self.project = nn.Linear(query_dim, query_dim, bias=False) if predictive else None
        self.v = nn.Parameter(torch.zeros(query_dim)) if predictive else None

    def keys(self, states: States) -> Keys:
        return self.scorer.keys(states)

    def centre(self, query: Query, valid: Valid, position: int = 0) -> Float[Tensor, "batch target"]:
        """p_t of each query."""
        if self.project is None or self.v is None:
            places = torch.arange(position, position + query.shape[1], device=query.device, dtype=query.dtype)
            return repeat(places, "target -> batch target", batch=len(query))
        share = torch.sigmoid(torch.tanh(self.project(query)).to(self.v.dtype) @ self.v)
        return valid.sum(dim=1, keepdim=True) * share

    def forward(
        self, query: Query, keys: Keys, states: States, valid: Valid, *, position: int = 0
    ) -> Float[Tensor, "batch target memory_dim"]:
        place = rearrange(token_positions(valid), "batch source -> batch 1 source")
        distance = place - rearrange(self.centre(query, valid, position), "batch target -> batch target 1")
        allowed = rearrange(valid, "batch source -> batch 1 source") & (distance.abs() <= self.window)
        gauss = None if self.project is None else torch.exp(-2 * (distance / self.window).square())
        return self.read(self.scorer.scores(query, keys, valid), states, allowed, gauss)


def _weights(scores: Tensor, allowed: Tensor, factor: Tensor | None) -> Tensor:
    # The lowest finite number instead of -inf, for which the softmax gives NaN where nothing is allowed.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~allowed, lowest).softmax(dim=-1).masked_fill(~allowed, 0.0)
    return weights if factor is None else weights * factor
