"""Texts with labels: read from whatever holds them, checked, and turned into batches."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batching import RowBatches, token_batches
from minitransformer.data.labelled_texts import LabelledCorpus, LabelledTexts, MappedTexts, checked
from minitransformer.data.row_file import MappedRows, Part, row_file, rows_in_memory
from minitransformer.data.token_cache import vocabulary_size
from minitransformer.data.token_rows import padded
from minitransformer.data.word_ids import encoded
from minitransformer.errors import InputError
from minitransformer.text_encoding import plain_tokenizer, text_frame

_FORMAT = "labelled 1"
"""Another number wherever other tokens are made of the same text: those in files are then made anew."""
_BATCH = 1000
"""Texts whose tokens are handed on together."""


def load_labelled(
    name_or_path: str | Path, *, text: str | None = None, label: str | None = None, seed: int = 0
) -> LabelledCorpus:
    """`reviews`, `hub:NAME`, or a path: a .csv, .tsv, .jsonl or .parquet file, or a folder of train, validation (or
    dev) and test files. A single file is split by text (see `grouped_split`).

    `text` and `label` name the columns, where they are not called so: see `labelled_files.choose`. A .csv or .tsv of
    two columns needs no header. Labels are in the order that the data declares, else sorted, whole numbers by value.

    Texts without a character or without a label are dropped, with a counted warning, and so is a test split without a
    single label. Raises `InputError` for another split without one, for labels that no training text has, and where all
    training texts have one label. Large splits stay in the file that holds them: see `LabelledTexts`.
    """
    from minitransformer.data import load, load_from_hub
    from minitransformer.data.labelled_files import choose, read_labelled

    name = str(name_or_path)
    if name in ("dates", "recall", "shakespeare", "bible"):
        raise InputError(f"{name} has no labels: take reviews, hub:NAME, or a table of texts and labels")
    if name == "reviews":
        loaded: Mapping[str, Any] = load(name, seed=seed)
    elif name.startswith("hub:"):
        loaded = load_from_hub(name.removeprefix("hub:"), lambda names: choose(names, text, label, where=name), seed)
    else:
        loaded = read_labelled(Path(name).expanduser(), text=text, label=label, seed=seed)
    declared = getattr(getattr(loaded["train"], "features", {}).get("label"), "names", None)
    return checked(loaded, declared, where=name)


def _rows(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[list[int]]:
    """All tokens of each text, with the marks around it."""
    first, last = text_frame(tokenizer)
    for ids in encoded(texts, tokenizer):
        yield [first, *ids, last]


class LabelledData:
    """The texts of a split as token ids, encoded once. `cut` of them were longer than `max_length`.

    A text is in `ids` from its place in `starts` on, which of `MappedTexts` is a mapped file: a text then takes 16
    bytes of memory. The file has all tokens of each text, whatever `max_length` is; `lengths` are those of what is left
    of it.
    """

    def __init__(self, split: LabelledTexts, tokenizer: Tokenizer, max_length: int, pad_id: int = 0):
        tokenizer = plain_tokenizer(tokenizer)
        self.ids, columns = _text_ids(split.texts, tokenizer)
        self.lengths = columns[:, 0]
        self.starts = self.lengths.cumsum(0).sub_(self.lengths)
        self.cut = int((self.lengths > max_length).sum())
        self.lengths.clamp_(max=max_length)
        self.labels = torch.from_numpy(np.asarray(split.labels, dtype=np.int32))
        self.last_id = text_frame(tokenizer)[1]
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, max_tokens: int, *, seed: int | None, pool: int | None = None) -> RowBatches:
        """See `token_batches`."""
        return token_batches(self.lengths, max_tokens, seed=seed, pool=pool)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, T), padded on the right, `labels` (B,), and `valid` (B, T) where anything is padded."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        ids, valid = padded(self.ids, starts, lengths, self.pad_id)
        ids[torch.arange(len(ids)), lengths.long() - 1] = self.last_id  # also where the text was cut
        batch = {"ids": ids, "labels": self.labels[chosen].long()}
        return batch if bool(valid.all()) else batch | {"valid": valid}


def _text_ids(texts: Sequence[str], tokenizer: Tokenizer) -> MappedRows:
    """A row for each text, see `_rows`; the column is its length.

    Of `MappedTexts` this is a file, whose name is a hash of the data set's fingerprint, the tokenizer and the format:
    what is there is used again.
    """
    dtype = torch.int16 if vocabulary_size(tokenizer) < 1 << 15 else torch.int32
    if isinstance(texts, MappedTexts):
        name = "\0".join((_FORMAT, texts.split._fingerprint, tokenizer.to_str()))
        return row_file(name, dtype, 1, partial(_parts, texts, tokenizer))
    return rows_in_memory(dtype, 1, _parts(texts, tokenizer))


def _parts(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[Part]:
    rows = _rows(texts, tokenizer)
    while part := list(islice(rows, _BATCH)):
        ids, lengths = array("i"), array("i")
        for row in part:
            ids.extend(row)
            lengths.append(len(row))
        yield np.array(ids, dtype=np.int32), np.array(lengths, dtype=np.int32).reshape(-1, 1)
