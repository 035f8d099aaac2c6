"""Rows of text in batches for a masked model, masked differently in every epoch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minitransformer.data.batching import RowBatches, token_batches
from minitransformer.data.masking import MaskVocabulary, mask_tokens
from minitransformer.data.packing import NO_LABEL
from minitransformer.data.token_rows import TokenRows, padded
from minitransformer.errors import InputError


class MaskedBatches:
    """Batches without end, of rows of nearly equal length. Pairs with labels share no batch with rows without.

    `rows` has the columns `second_start` and `label` (see `packing`). In epoch e row i has the number
    e · len(rows) + i, so that a batch, masks included, is a function of its numbers and the seed. `units`, `rate`,
    `masked` and `replaced` are those of `mask_tokens`.
    """

    def __init__(
        self,
        rows: TokenRows,
        vocabulary: MaskVocabulary,
        *,
        pad_id: int,
        max_tokens: int,
        seed: int,
        units: str = "tokens",
        rate: float = 0.15,
        masked: float = 0.8,
        replaced: float = 0.1,
    ):
        if not len(rows):
            raise InputError("the texts hold no tokens to learn from")
        self.rows, self.vocabulary, self.pad_id = rows, vocabulary, pad_id
        self.max_tokens, self.seed = max_tokens, seed
        self.options: dict[str, Any] = dict(units=units, rate=rate, masked=masked, replaced=replaced)

    def epoch(self, number: int) -> RowBatches:
        """The numbers of the rows of every batch; each row once."""
        return self._batches(number, seed=self.seed * 1_000_003 + number)

    def in_order(self) -> RowBatches:
        """Epoch 0 from short rows to long, always the same: for evaluation."""
        return self._batches(0, seed=None)

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """`ids` and `targets` (B, T), `valid` (B, T), and for pairs `segment_ids` (B, T) and `sentence_labels` (B)."""
        rows = torch.tensor(numbers) % len(self.rows)
        ids, valid = padded(self.rows.ids, self.rows.starts[rows], self.rows.lengths[rows], self.pad_id)
        epoch = numbers[0] // len(self.rows)
        masked, targets = mask_tokens(ids, rows.tolist(), self.vocabulary, seed=self.seed, epoch=epoch, **self.options)
        batch = {"ids": masked, "targets": targets, "valid": valid}
        labels = self.rows.columns["label"][rows]
        if labels[0] != NO_LABEL:
            second_starts = self.rows.columns["second_start"][rows]
            batch["segment_ids"] = ((torch.arange(ids.shape[1]) >= second_starts[:, None]) & valid).long()
            batch["sentence_labels"] = labels.long()
        return batch

    def _batches(self, epoch: int, seed: int | None) -> RowBatches:
        labels = self.rows.columns["label"]
        order, starts, ends, before = [], [], [], 0
        for kind in (labels == NO_LABEL, labels != NO_LABEL):
            of_kind = kind.nonzero().squeeze(1).int()
            chosen = token_batches(self.rows.lengths[of_kind], self.max_tokens, seed=seed)
            order.append(of_kind[chosen.order])
            starts.append(chosen.starts + before)
            ends.append(chosen.ends + before)
            before += len(of_kind)
        batches = RowBatches(torch.cat(order), torch.cat(starts), torch.cat(ends), offset=epoch * len(labels))
        return batches if seed is None else batches.shuffled(torch.Generator().manual_seed(seed))
