"""Batches measured in tokens, of rows of nearly equal length, so that little of a batch is padding."""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from minitransformer.errors import InputError


class RowBatches(Sequence[list[int]]):
    """Batch i has the rows `offset + step · order[starts[i] : ends[i]]`.

    A batch is a list of integers that is made when it is asked for: an epoch takes 4 bytes a row, where lists take 40.
    """

    def __init__(
        self,
        order: Int[Tensor, " rows"],
        starts: Int[Tensor, " batches"],
        ends: Int[Tensor, " batches"],
        *,
        offset: int = 0,
        step: int = 1,
    ):
        self.order, self.starts, self.ends, self.offset, self.step = order, starts, ends, offset, step

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"batch {place} of {len(self)}")
        rows = self.order[int(self.starts[place]) : int(self.ends[place])]
        return (rows.long() * self.step + self.offset).tolist()

    def shuffled(self, generator: torch.Generator) -> "RowBatches":
        """The same batches in another order."""
        places = torch.randperm(len(self), generator=generator)
        return RowBatches(self.order, self.starts[places], self.ends[places], offset=self.offset, step=self.step)


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

    # This is what an epoch holds in memory for every row of a large corpus: 4 bytes where they suffice.
    count = len(sizes)
    small: dict[str, Any] = {"dtype": torch.int32 if count < 1 << 31 else torch.int64}
    order = torch.arange(count, **small) if generator is None else torch.randperm(count, generator=generator, **small)
    pool_rows = count
    if pool is not None and count:
        pool_rows = max(1, int(pool * max_tokens / sizes.sum(dim=1, dtype=torch.int32).float().mean()))
    for column in reversed(sizes.unbind(1)):  # by target, then by source: the later sort decides
        # One view at a time: `order.split` makes a list of all, and each takes about 500 bytes.
        for start in range(0, count, pool_rows or 1):
            rows = order[start : start + pool_rows]
            rows.copy_(rows[column[rows].argsort(stable=True)])

    ends = _batch_ends(order, sizes, max_tokens)
    batches = RowBatches(order, F.pad(ends, (1, 0))[:-1], ends)
    return batches if generator is None else batches.shuffled(generator)


def _batch_ends(
    order: Int[Tensor, " rows"], sizes: Int[Tensor, "rows columns"], max_tokens: int
) -> Int[Tensor, " batches"]:
    """Where each batch ends: it takes the rows in `order` until another would bring it over `max_tokens`."""
    rows, lengths = order.numpy(), sizes.numpy()
    ends, start, width = array("q"), 0, 64
    while start < len(rows):
        longest = np.maximum.accumulate(lengths[rows[start : start + width]]).sum(axis=1, dtype=np.int64)
        tokens = longest * np.arange(1, len(longest) + 1)  # in a batch that ends after each of these rows
        fitting = int(tokens.searchsorted(max_tokens, side="right"))
        if fitting == width:
            width *= 2
            continue
        start, width = start + max(1, fitting), max(8, 2 * fitting)
        ends.append(start)
    return torch.tensor(ends, dtype=torch.int64)
