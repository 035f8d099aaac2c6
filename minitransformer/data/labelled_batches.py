"""Texts with labels in batches of tokens."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batching import RowBatches, token_batches
from minitransformer.data.columns import text_batches
from minitransformer.data.token_rows import padded, token_rows
from minitransformer.text_encoding import plain_tokenizer, text_frame
from minitransformer.tokenization import unknown_id

if TYPE_CHECKING:
    import datasets


class LabelledData:
    """The texts and labels of a split as token ids: [CLS] text [SEP] (see `text_frame`), and `labels`.

    A text is encoded once, whole, into `rows` (see `token_rows`), and cut to `max_length` ids in a batch; `cut` of the
    texts are longer than that. `lengths` counts the ids in a batch. A text that spells a special token stays text.
    """

    def __init__(self, split: "datasets.Dataset", tokenizer: Tokenizer, max_length: int, pad_id: int = 0):
        tokenizer = plain_tokenizer(tokenizer)
        self.rows = token_rows(
            lambda: _encoded(split, tokenizer),
            columns=["label", "unknown"],
            tokenizers=[tokenizer],
            key=["labelled", split._fingerprint],
        )
        self.labels = self.rows.columns["label"]
        self.cut = int((self.rows.lengths > max_length).sum())
        self.lengths = self.rows.lengths.clamp(max=max_length) if self.cut else self.rows.lengths
        self.last_id = text_frame(tokenizer)[1]
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, max_tokens: int, *, seed: int | None, pool: int | None = None) -> RowBatches:
        """See `token_batches`."""
        return token_batches(self.lengths, max_tokens, seed=seed, pool=pool)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, T), padded on the right, `labels` (B,), and `valid` (B, T) if anything is padded."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        lengths = self.lengths[chosen]
        ids, valid = padded(self.rows.ids, self.rows.starts[chosen], lengths, self.pad_id)
        ids[torch.arange(len(ids)), lengths.long() - 1] = self.last_id  # of texts that were cut, too
        batch = {"ids": ids, "labels": self.labels[chosen].long()}
        return batch if bool(valid.all()) else batch | {"valid": valid}


def _encoded(split: "datasets.Dataset", tokenizer: Tokenizer) -> Iterator[tuple[list[int], int, int]]:
    """The ids of each text between its marks, its label, and how many of the ids are unknown."""
    (first, last), unknown = text_frame(tokenizer), unknown_id(tokenizer)
    for rows in text_batches(split, "text", "label"):
        encodings = tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)
        for encoding, label in zip(encodings, rows["label"], strict=True):
            yield [first, *encoding.ids, last], int(label), encoding.ids.count(unknown)
