"""Texts with labels in batches of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batching import RowBatches, token_batches
from minitransformer.data.columns import text_batches
from minitransformer.data.labelled_texts import LabelledCorpus, checked
from minitransformer.data.token_rows import padded, token_rows
from minitransformer.errors import InputError
from minitransformer.text_encoding import plain_tokenizer, text_frame

if TYPE_CHECKING:
    import datasets


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


class LabelledData:
    """The texts and labels of a split as token ids: [CLS] text [SEP] (see `text_frame`), and `labels`.

    A text is encoded once, whole, into `rows` (see `token_rows`), and cut to `max_length` ids in a batch; `cut` of the
    texts are longer than that. `lengths` counts the ids in a batch. A text that spells a special token stays text.
    """

    def __init__(self, split: "datasets.Dataset", tokenizer: Tokenizer, max_length: int, pad_id: int = 0):
        tokenizer = plain_tokenizer(tokenizer)
        self.rows = token_rows(
            lambda: _encoded(split, tokenizer),
            columns=["label"],
            tokenizers=[tokenizer],
            key=["labelled", split._fingerprint],
        )
        self.labels = self.rows.columns["label"]
        self.lengths = self.rows.lengths.clamp(max=max_length)
        self.cut = int((self.rows.lengths > max_length).sum())
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


def _encoded(split: "datasets.Dataset", tokenizer: Tokenizer) -> Iterator[tuple[list[int], int]]:
    """The ids of each text between its marks, and its label."""
    first, last = text_frame(tokenizer)
    for rows in text_batches(split, "text", "label"):
        encodings = tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)
        for encoding, label in zip(encodings, rows["label"], strict=True):
            yield [first, *encoding.ids, last], int(label)
