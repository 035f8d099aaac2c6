"""Texts with labels: read from whatever holds them, checked, and turned into batches."""

import warnings
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batches import RowBatches
from minitransformer.data.batching import padded_rows, token_batches
from minitransformer.errors import InputError
from minitransformer.tokenization import end_of_text_id, masked_specials


class LabelledTexts(NamedTuple):
    """The texts of a split and the places of their labels in the corpus's `names`."""

    texts: list[str]
    labels: list[int]


@dataclass(frozen=True)
class LabelledCorpus:
    """`splits` has `train`, `validation` and, where there is one, `test`; `names` are those of the labels."""

    names: tuple[str, ...]
    splits: Mapping[str, LabelledTexts]


def load_labelled(
    name_or_path: str | Path, *, text: str | None = None, label: str | None = None, seed: int = 0
) -> LabelledCorpus:
    """`reviews`, `hub:NAME`, or a path: a .csv, .tsv, .jsonl or .parquet file, or a folder of train, validation (or
    dev) and test files. A single file is split by text (see `grouped_split`).

    `text` and `label` name the columns, where they are not called so: see `labelled_files.choose`. A .csv or .tsv of
    two columns needs no header. Labels are in the order that the data declares, else sorted, whole numbers by value.

    Texts without a character or without a label are dropped, with a counted warning, and so is a test split without a
    single label. Raises `InputError` for another split without one, for labels that no training text has, and where all
    training texts have one label.
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
    return _checked({split: (table["text"], table["label"]) for split, table in loaded.items()}, declared, where=name)


def _checked(
    tables: dict[str, tuple[Sequence[Any], Sequence[Any]]], declared: Sequence[str] | None, *, where: str
) -> LabelledCorpus:
    splits: dict[str, tuple[list[str], list[str]]] = {}
    dropped: dict[str, dict[str, int]] = {"label": {}, "character": {}}
    for split, (texts, labels) in tables.items():
        named = [_label_name(label, declared) for label in labels]
        missing = named.count(None)
        if split == "test" and missing == len(named):
            warnings.warn(f"{where}: test has no labels and is left out", stacklevel=3)
            continue
        if missing == len(named):
            raise InputError(f"{where}: none of the {missing} {split} texts has a label")
        if strange := next((text for text in texts if text is not None and not isinstance(text, str)), None):
            raise InputError(f"{where}: {str(strange)[:100]!r} in {split} is not text")
        labelled = [(text, name) for text, name in zip(texts, named, strict=True) if name is not None]
        rows = [(text, name) for text, name in labelled if text and not text.isspace()]
        if not rows:
            raise InputError(f"{where}: {split} has no text in any of its {len(labelled)} rows with a label")
        dropped["label"][split] = missing
        dropped["character"][split] = len(labelled) - len(rows)
        splits[split] = [text for text, _ in rows], [name for _, name in rows]
    for lacking, counts in dropped.items():
        if total := sum(counts.values()):
            shown = ", ".join(f"{count} in {split}" for split, count in counts.items() if count)
            warnings.warn(f"{where}: dropped {total} texts without a {lacking}: {shown}", stacklevel=3)

    seen = set(splits["train"][1])
    if len(seen) < 2:
        raise InputError(
            f"{where}: all of the {len(splits['train'][1])} training texts have the label {seen.pop()!r}: "
            "there is nothing to tell apart"
        )
    names = tuple(declared) if declared is not None else tuple(sorted(seen, key=_by_value))
    places = {name: place for place, name in enumerate(names)}
    for split, (_, labels) in splits.items():
        if unknown := Counter(label for label in labels if label not in places):
            shown = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(5))
            raise InputError(
                f"{where}: {unknown.total()} of {len(labels)} {split} texts have a label that no training text has: "
                f"{shown}{', ...' if len(unknown) > 5 else ''}; the labels are {', '.join(names[:10])}"
            )
    return LabelledCorpus(
        names,
        {split: LabelledTexts(texts, [places[label] for label in labels]) for split, (texts, labels) in splits.items()},
    )


def _label_name(label: Any, declared: Sequence[str] | None) -> str | None:
    """None where there is no label: empty, or -1 of the declared ones, as the hub has it."""
    if declared is not None and isinstance(label, int):
        return declared[label] if 0 <= label < len(declared) else None
    return None if label is None or not str(label).strip() else str(label)


def _by_value(name: str) -> tuple[bool, int, str]:
    # Python refuses to read numbers of some thousand digits.
    number = name.removeprefix("-").isdecimal() and len(name) < 1000
    return (not number, int(name) if number else 0, name)


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> tuple[list[list[int]], int]:
    """The ids of each text as a classifier reads it, and how many texts were cut to `max_length` tokens.

    Around the text stand [CLS] and [SEP] (or RoBERTa's), where the tokenizer has them, else the end of text, twice.
    A text that spells a special token, such as "[SEP]", stays text.
    """
    tokenizer = _plain(tokenizer)
    first, last = text_frame(tokenizer)
    room = max_length - 2
    rows, cut = [], 0
    # In pieces, because an encoding takes a hundred times the room of its ids.
    for start in range(0, len(texts), 1000):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + 1000]), add_special_tokens=False):
            cut += len(encoding.ids) > room
            rows.append([first, *encoding.ids[:room], last])
    return rows, cut


def words_of(text: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """The words of a text, as it spells them, and the places of their tokens in its `ids` from `encode_texts`; the
    marks around the text are words of their own."""
    encoding = _plain(tokenizer).encode(text, add_special_tokens=False)
    words: list[tuple[str, list[int]]] = [(str(tokenizer.id_to_token(ids[0])), [0])]
    previous = None
    for place, ((start, end), word) in enumerate(zip(encoding.offsets, encoding.word_ids, strict=True), start=1):
        if place == len(ids) - 1:
            break
        if word is not None and word == previous:
            spelled, places = words[-1]
            words[-1] = spelled + text[start:end], [*places, place]
        else:
            words.append((text[start:end], [place]))
        previous = word
    # A piece of byte-pair encoding holds the space before it.
    words = [(spelled.strip() or spelled, places) for spelled, places in words]
    return [*words, (str(tokenizer.id_to_token(ids[-1])), [len(ids) - 1])]


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that encodes a text as it is: a checkpoint's may pad, cut, and look for special tokens in it."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def text_frame(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids that stand before and after a text."""
    try:
        specials = masked_specials(tokenizer)
    except InputError:
        end = end_of_text_id(tokenizer)
        return end, end
    return specials.cls_id, specials.sep_id


class LabelledData:
    """The texts of a split as token ids, encoded once. `cut` of them were longer than `max_length`."""

    def __init__(self, split: LabelledTexts, tokenizer: Tokenizer, max_length: int, pad_id: int = 0):
        rows, self.cut = encode_texts(split.texts, tokenizer, max_length)
        ids, offsets = array("i"), array("q", [0])
        for row in rows:
            ids.extend(row)
            offsets.append(len(ids))
        self.ids = torch.tensor(ids, dtype=torch.int32)
        self.offsets = torch.tensor(offsets, dtype=torch.int64)
        self.labels = torch.tensor(split.labels)
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, max_tokens: int, *, seed: int | None, pool: int | None = None) -> RowBatches:
        """See `token_batches`."""
        return token_batches(self.offsets.diff(), max_tokens, seed=seed, pool=pool)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, T), padded on the right, `labels` (B,), and `valid` (B, T) where anything is padded."""
        ids, valid = padded_rows(self.ids, self.offsets, rows, self.pad_id)
        batch = {"ids": ids, "labels": self.labels[torch.as_tensor(rows)]}
        return batch if bool(valid.all()) else batch | {"valid": valid}
