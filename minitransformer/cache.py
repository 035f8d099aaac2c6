"""The memory of decoding: keys and values of the tokens that an attention layer has seen."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from minitransformer.errors import InputError


class KVCache:
    """Keys and values of the tokens that one attention layer has seen, for inference only.

    Memory is allocated once, for `max_length` slots, and written in place. All rows of the batch use the same slots; a
    mask says which of a row's slots are real, and `positions` (B, max_length) holds their positions in the row, where
    the attention uses positions. When all slots are full, a single new token overwrites the oldest, so that attention
    runs over a sliding window of the last `max_length` tokens.
    """

    def __init__(
        self,
        batch_size: int,
        num_kv_heads: int,
        max_length: int,
        head_dim: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        if max_length < 1:
            raise InputError(f"max_length={max_length}: a cache needs at least one slot")
        size = batch_size, 2 * num_kv_heads, max_length, head_dim
        self._hold(
            torch.empty(size, dtype=dtype, device=device),
            torch.zeros(batch_size, max_length, dtype=torch.long, device=device),
        )
        self.max_length = max_length
        self.num_seen = 0

    def _hold(self, pairs: Tensor, positions: Tensor) -> None:
        self.pairs, self.positions = pairs, positions
        self.keys, self.values = pairs.chunk(2, dim=1)

    @property
    def length(self) -> int:
        """How many slots are filled."""
        return min(self.num_seen, self.max_length)

    def append(self, key: Tensor, value: Tensor, position_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Write T new tokens (B, Hkv, T, K) and return the keys and values of all filled slots, as views."""
        if torch.is_grad_enabled() and key.requires_grad:
            raise RuntimeError("a KVCache is written in place: use it under torch.no_grad() or inference_mode()")
        new = key.shape[2]
        start = self._take(new)
        self.keys.narrow(2, start, new).copy_(key)
        self.values.narrow(2, start, new).copy_(value)
        if position_ids is not None:
            self.positions.narrow(1, start, new).copy_(position_ids)
        return self.filled()

    def append_pairs(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """`append` of one token's keys and values, side by side along the heads (B, 2 Hkv, 1, K), in one write."""
        self.pairs.narrow(2, self._take(1), 1).copy_(pairs)
        return self.filled()

    def _take(self, new: int) -> int:
        """The first slot of the next `new` ones."""
        seen = self.num_seen
        if seen + new > self.max_length and new > 1:
            raise InputError(
                f"{new} tokens do not fit in the {self.max_length - self.length} free slots of a cache of "
                f"{self.max_length}: only single tokens may push out the oldest"
            )
        self.num_seen += new
        return seen if seen + new <= self.max_length else seen % self.max_length

    def filled(self) -> tuple[Tensor, Tensor]:
        length = self.length
        return self.keys.narrow(2, 0, length), self.values.narrow(2, 0, length)

    def next_positions(self) -> Int[Tensor, "batch 1"]:
        """The position after the last of each row; 0 in an empty cache."""
        if not self.num_seen:
            return torch.zeros_like(self.positions[:, :1])
        last = (self.num_seen - 1) % self.max_length
        return self.positions[:, last : last + 1] + 1

    def newest(self, slots: int) -> "KVCache":
        """A full cache of the last `slots` of the tokens seen, of which it holds at least as many."""
        batch, heads, _, head_dim = self.keys.shape
        cache = KVCache(batch, heads, slots, head_dim, dtype=self.keys.dtype, device=self.keys.device)
        cache.num_seen, first = slots, self.num_seen - slots
        cache.pairs.copy_(self.pairs.narrow(2, first, slots))
        cache.positions.copy_(self.positions.narrow(1, first, slots))
        return cache

    def select(self, rows: Int[Tensor, " rows"]) -> "KVCache":
        """A cache with these rows of the batch, which may repeat or leave out some; only filled slots are copied."""
        _, heads, slots, head_dim = self.keys.shape
        cache = KVCache(len(rows), heads, slots, head_dim, dtype=self.keys.dtype, device=self.keys.device)
        cache.num_seen = self.num_seen
        for old, new, slots in ((self.pairs, cache.pairs, 2), (self.positions, cache.positions, 1)):
            torch.index_select(old.narrow(slots, 0, self.length), 0, rows, out=new.narrow(slots, 0, self.length))
        return cache


def reordered(caches: Sequence[KVCache], rows: Int[Tensor, " rows"]) -> list[KVCache]:
    """`select` in place, of at most as many rows as the caches hold; the caches handed in must not be used afterwards.
    A row that keeps its place is not copied."""
    moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().flatten()
    sources, kept = rows[moved], []
    for cache in caches:
        for tensor, slots in ((cache.pairs, 2), (cache.positions, 1)):
            filled = tensor.narrow(slots, 0, cache.length)
            filled.index_copy_(0, moved, filled.index_select(0, sources))
        kept.append(copy.copy(cache))
        kept[-1]._hold(cache.pairs[: len(rows)], cache.positions[: len(rows)])
    return kept
