"""Pairs of source and target texts in batches of tokens."""

from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batching import RowBatches, token_batches
from minitransformer.data.columns import text_batches
from minitransformer.data.token_rows import padded, token_rows
from minitransformer.tokenization import BOS, EOS, PAD, special_id, unknown_id

if TYPE_CHECKING:
    import datasets


class Seq2SeqData:
    """The pairs of a split as token ids: a source ends in EOS, a target is BOS ... EOS.

    `lengths` counts those tokens, sources in the first column and targets in the second. They are encoded once, into
    `rows` (see `token_rows`): a pair is a row, its source before its target.
    """

    def __init__(self, split: "datasets.Dataset", source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
        self.source_pad_id = special_id(source_tokenizer, PAD)
        self.target_pad_id = special_id(target_tokenizer, PAD)
        self.rows = token_rows(
            lambda: _encoded(split, source_tokenizer, target_tokenizer),
            columns=["source_length", "unknown"],
            tokenizers=[source_tokenizer, target_tokenizer],
            key=["pairs", split._fingerprint],
        )

    @property
    def lengths(self) -> Int[Tensor, "pairs 2"]:
        sources = self.rows.columns["source_length"]
        return torch.stack([sources, self.rows.lengths - sources], dim=1)

    def __len__(self) -> int:
        return len(self.rows)

    def within(self, limit: int) -> "Seq2SeqData":
        """The pairs that have at most `limit` tokens on either side, over the same ids."""
        fits = (self.lengths <= limit).all(dim=1)
        if fits.all():
            return self
        shorter = copy(self)
        shorter.rows = self.rows.select(fits)
        return shorter

    def batches(self, max_tokens: int, *, seed: int | None, pool: int | None = None) -> RowBatches:
        """See `token_batches`."""
        return token_batches(self.lengths, max_tokens, seed=seed, pool=pool)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`source_ids` (B, S), `source_valid` (B, S) and `target_ids` (B, T) of these pairs, padded on the right."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        starts, lengths = self.rows.starts[chosen], self.rows.lengths[chosen]
        sources = self.rows.columns["source_length"][chosen]
        source_ids, source_valid = padded(self.rows.ids, starts, sources, self.source_pad_id)
        target_ids, _ = padded(self.rows.ids, starts + sources, lengths - sources, self.target_pad_id)
        return {"source_ids": source_ids, "source_valid": source_valid, "target_ids": target_ids}


def _encoded(
    split: "datasets.Dataset", source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> Iterator[tuple[list[int], int, int]]:
    """The ids of each pair, how many of them are the source's, and how many are unknown."""
    source_eos, target_eos = (special_id(tokenizer, EOS) for tokenizer in (source_tokenizer, target_tokenizer))
    bos = special_id(target_tokenizer, BOS)
    source_unknown, target_unknown = unknown_id(source_tokenizer), unknown_id(target_tokenizer)
    for rows in text_batches(split, "source", "target"):
        sources = source_tokenizer.encode_batch_fast(rows["source"], add_special_tokens=False)
        targets = target_tokenizer.encode_batch_fast(rows["target"], add_special_tokens=False)
        for source, target in zip(sources, targets, strict=True):
            unknown = source.ids.count(source_unknown) + target.ids.count(target_unknown)
            yield [*source.ids, source_eos, bos, *target.ids, target_eos], len(source.ids) + 1, unknown
