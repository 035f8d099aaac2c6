"""Short documents packed into windows, each to be predicted as if it were alone, to train a causal model on."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from minitransformer.data.batching import RowBatches
from minitransformer.data.token_rows import TokenRows

SHORT = 0.9
"""Documents are short if at least so large a share of them fits into a window."""


def document_lengths(rows: TokenRows) -> Int[Tensor, " documents"]:
    """The ids of each document of `stream_rows`, end-of-text before and behind it among them."""
    starts = rows.starts[rows.columns["bytes"] == 0]  # of the rows that are end-of-text
    return torch.cat([starts[1:], torch.tensor([len(rows.ids)])]) - starts + 1


def are_short(lengths: Int[Tensor, " documents"], context: int) -> bool:
    """Whether nine in ten documents, of two or more, fit into a window."""
    return len(lengths) > 1 and bool((lengths <= context + 1).float().mean() >= SHORT)


class PackedDocuments:
    """Windows of `context` + 1 tokens in batches, without end; each epoch reads every document once.

    A document is end-of-text, its tokens, end-of-text; `rows` is what `stream_rows` returns. Only a document that is
    longer than a window is divided, into parts of which each begins with the last token of the one before. The order
    depends on the seed and the epoch alone.
    """

    def __init__(self, rows: TokenRows, context: int, *, batch_size: int, seed: int):
        self.ids, self.window, self.batch_size, self.seed = rows.ids, context + 1, batch_size, seed
        lengths = document_lengths(rows)
        starts = (
            lengths.cumsum(0) - lengths - torch.arange(len(lengths))
        )  # a document ends with the next one's first id
        parts = (lengths - 2) // context + 1
        number = torch.arange(int(parts.sum())) - (parts.cumsum(0) - parts).repeat_interleave(parts)
        self.starts = starts.repeat_interleave(parts) + context * number
        self.lengths = (lengths.repeat_interleave(parts) - context * number).clamp(max=self.window)
        self.end_of_text = int(rows.ids[0])

    @property
    def targets(self) -> int:
        """The tokens to predict, end-of-text after every document among them."""
        return int((self.lengths - 1).sum())

    def epoch(self, number: int) -> RowBatches:
        """The numbers of the parts in every batch. Windows that fill no batch are left out."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return self._batches(torch.randperm(len(self.lengths), generator=generator), self.batch_size, partial=False)

    def in_order(self, batch_size: int) -> RowBatches:
        """All documents in batches of so many windows, always the same: for evaluation."""
        return self._batches(torch.arange(len(self.lengths)), batch_size, partial=True)

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, context + 1) and `document_ids`, which is another number for every part and every padding token."""
        parts = torch.tensor(numbers)
        lengths = self.lengths[parts]
        ends = torch.tensor(self._window_ends(lengths))
        first = lengths.cumsum(0) - lengths  # of each part, if nothing were padded
        window = torch.searchsorted(ends, torch.arange(len(parts)), right=True)
        window_first = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
        place = window * self.window + first - first[window_first][window]
        within = torch.arange(int(lengths.sum())) - first.repeat_interleave(lengths)
        source = self.starts[parts].repeat_interleave(lengths) + within
        target = place.repeat_interleave(lengths) + within
        ids = torch.full((len(ends) * self.window,), self.end_of_text)
        # Behind the last document there is no end-of-text of a next one.
        real = source < len(self.ids)
        ids[target[real]] = self.ids[source[real]].long()
        document_ids = -1 - torch.arange(len(ids))
        document_ids[target] = torch.arange(len(parts)).repeat_interleave(lengths)
        return {name: flat.view(-1, self.window) for name, flat in (("ids", ids), ("document_ids", document_ids))}

    def _batches(self, order: Int[Tensor, " parts"], batch_size: int, *, partial: bool) -> RowBatches:
        windows = self._window_ends(self.lengths[order])
        ends = windows[batch_size - 1 :: batch_size]
        if not ends or (partial and ends[-1] != windows[-1]):
            ends.append(windows[-1])
        return RowBatches(order, torch.tensor([0, *ends[:-1]]), torch.tensor(ends))

    def _window_ends(self, lengths: Int[Tensor, " parts"]) -> list[int]:
        """After how many parts each window ends: it takes the parts in order until the next does not fit."""
        totals, ends, before = lengths.cumsum(0).numpy(), list[int](), 0
        while not ends or ends[-1] < len(totals):
            ends.append(int(np.searchsorted(totals, before + self.window, side="right")))
            before = totals[ends[-1] - 1]
        return ends
