"""Batches measured in tokens, of rows of near-equal length, so that little of a batch is padding."""

from array import array
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batches import RowBatches
from minitransformer.data.pair_ids import pair_ids
from minitransformer.errors import InputError
from minitransformer.tokenization import PAD, special_id

if TYPE_CHECKING:
    import datasets


def token_batches(
    lengths: Sequence[int] | Int[Tensor, "rows"] | Int[Tensor, "rows 2"],
    max_tokens: int,
    *,
    seed: int | None,
    pool: int | None = None,
) -> RowBatches:
    """The rows of each batch: every row once, and no batch with more than `max_tokens`, padding included.

    A batch has rows x (longest source + longest target) tokens where `lengths` has both columns, rows x longest where
    it has one. A row that alone has more than `max_tokens` is a batch of its own. With a seed, rows of equal length and
    then the batches are shuffled; without one (`seed=None`), rows come from short to long, always in the same batches.

    Batches of one length each have the least padding, but also the least variety. With a `pool` the shuffled rows are
    sorted within pools of about that many batches only; 1 sorts nothing across batches.
    """
    if max_tokens < 1:
        raise InputError(f"max_tokens={max_tokens} must be at least 1")
    sizes = torch.as_tensor(lengths, dtype=torch.int32)
    if sizes.ndim == 1:
        sizes = sizes.unsqueeze(1)
    generator = None if seed is None else torch.Generator().manual_seed(seed)

    # As few bytes a row as there can be: of a large corpus this is what an epoch holds in memory.
    small: dict[str, Any] = {"dtype": torch.int32 if len(sizes) < 1 << 31 else torch.int64}
    count = len(sizes)
    order = torch.arange(count, **small) if generator is None else torch.randperm(count, generator=generator, **small)
    pool_rows = count
    if pool is not None and count:
        pool_rows = max(1, int(pool * max_tokens / sizes.sum(dim=1, dtype=torch.int32).float().mean()))
    for column in reversed(sizes.unbind(1)):  # by target, then by source: the later sort decides
        for rows in order.split(max(1, pool_rows)):
            rows.copy_(rows[column[rows].argsort(stable=True)])

    ends = _batch_ends(order, sizes, max_tokens)
    batches = RowBatches(order, F.pad(ends, (1, 0))[:-1], ends)
    return batches if generator is None else batches.shuffled(generator)


def _batch_ends(
    order: Int[Tensor, " rows"], sizes: Int[Tensor, "rows columns"], max_tokens: int
) -> Int[Tensor, " batches"]:
    """Where each batch ends, which takes rows in `order` as long as it has no more than `max_tokens`."""
    rows, lengths = order.numpy(), sizes.numpy()
    ends, start, width = array("q"), 0, 64
    while start < len(rows):
        longest = np.maximum.accumulate(lengths[rows[start : start + width]]).sum(axis=1, dtype=np.int64)
        tokens = longest * np.arange(1, len(longest) + 1)  # of a batch that ends after each of these rows
        fitting = int(tokens.searchsorted(max_tokens, side="right"))
        if fitting == width:
            width *= 2
            continue
        start, width = start + max(1, fitting), max(8, 2 * fitting)
        ends.append(start)
    return torch.tensor(ends, dtype=torch.int64)


class Seq2SeqData:
    """The pairs of a split as token ids, encoded once: a source ends in EOS, a target is BOS ... EOS.

    `lengths` counts those tokens, sources in the first column and targets in the second. A pair is in `ids` from its
    place in `starts` on, which of large corpora is a mapped file: a pair then takes 16 bytes of memory.
    """

    def __init__(self, split: "datasets.Dataset", source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
        self.source_pad_id = special_id(source_tokenizer, PAD)
        self.target_pad_id = special_id(target_tokenizer, PAD)
        self.ids, self.lengths = pair_ids(split, source_tokenizer, target_tokenizer)
        ends = self.lengths.sum(dim=1).cumsum_(0)
        self.starts = ends.sub_(self.lengths[:, 0]).sub_(self.lengths[:, 1])

    def __len__(self) -> int:
        return len(self.lengths)

    def within(self, limit: int) -> "Seq2SeqData":
        """The pairs that have at most `limit` tokens on either side. The tokens are those of this one."""
        kept = (self.lengths <= limit).all(dim=1)
        if kept.all():
            return self
        shorter = copy(self)
        shorter.starts, shorter.lengths = self.starts[kept], self.lengths[kept]
        return shorter

    def batches(self, max_tokens: int, *, seed: int | None, pool: int | None = None) -> RowBatches:
        """See `token_batches`."""
        return token_batches(self.lengths, max_tokens, seed=seed, pool=pool)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`source_ids` (B, S), `source_valid` (B, S) and `target_ids` (B, T) of these rows, padded on the right."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        starts, (sources, targets) = self.starts[chosen], self.lengths[chosen].unbind(1)
        source_ids, source_valid = padded(self.ids, starts, starts + sources, self.source_pad_id)
        target_ids, _ = padded(self.ids, starts + sources, starts + sources + targets, self.target_pad_id)
        return {"source_ids": source_ids, "source_valid": source_valid, "target_ids": target_ids}


def padded_rows(
    ids: Int[Tensor, "tokens"], offsets: Int[Tensor, "rows_and_one"], rows: Sequence[int], pad_id: int
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """These rows of texts that stand end to end in `ids`, and which of their slots are real."""
    chosen = torch.as_tensor(rows, dtype=torch.int64)
    return padded(ids, offsets[chosen], offsets[chosen + 1], pad_id)


def padded(
    ids: Int[Tensor, "tokens"], starts: Int[Tensor, "batch"], ends: Int[Tensor, "batch"], pad_id: int
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """What stands in `ids` from each of `starts` to its end in `ends`, as the rows of one tensor, and which of their
    slots are real."""
    places = starts.unsqueeze(1) + torch.arange(int((ends - starts).max()))
    valid = places < ends.unsqueeze(1)
    # Places past a text's end hold its neighbour's tokens, and past the last text's end nothing.
    return ids[places.clamp(max=len(ids) - 1)].long().masked_fill(~valid, pad_id), valid
