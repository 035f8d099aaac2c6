"""Texts with labels: checked, and kept in memory or, of large corpora, read where they are asked for."""

import warnings
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minitransformer.data import columns, remembered
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets


def is_large(split: "datasets.Dataset") -> bool:
    """Whether its tokens are to be in a file: it has `remembered.LARGE` bytes or more."""
    # Of rows that were chosen from a data set, `data` has all the others too.
    return split.data.nbytes * len(split) / max(1, split.data.num_rows) >= remembered.LARGE


class MappedTexts(Sequence[str]):
    """The column text of a data set, none of which is kept: one after another they are read a few at a time."""

    def __init__(self, split: "datasets.Dataset"):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __iter__(self) -> Iterator[str]:
        return columns.texts(self.split, "text")

    def __getitem__(self, place: Any) -> Any:
        return self.split["text"][place]


class LabelledTexts(NamedTuple):
    """The texts of a split and the places of their labels in the corpus's `names`: lists, but `MappedTexts` and an
    array of 4 bytes each where a data set of the hub or a table is large."""

    texts: Sequence[str]
    labels: Sequence[int]


@dataclass(frozen=True)
class LabelledCorpus:
    """`splits` has `train`, `validation` and, where there is one, `test`; `names` are those of the labels."""

    names: tuple[str, ...]
    splits: Mapping[str, LabelledTexts]


def checked(tables: Mapping[str, Any], declared: Sequence[str] | None, *, where: str) -> LabelledCorpus:
    """Each split is a dict of lists or a `datasets.Dataset`, with text and label; a label is its name, or its number
    where names are `declared`. See `load_labelled` for what is dropped and what is refused.

    A data set is read a few rows at a time, once; what is kept of a large one is 4 bytes a row, and 8 more where rows
    are dropped.
    """
    numbers: dict[str, int] = {}
    splits: dict[str, _Rows] = {}
    for split, table in tables.items():
        rows = _read(table, declared, numbers)
        if split == "test" and rows.unlabelled == rows.count:
            warnings.warn(f"{where}: test has no labels and is left out", stacklevel=3)
            continue
        if rows.unlabelled == rows.count:
            raise InputError(f"{where}: none of the {rows.count} {split} texts has a label")
        if rows.strange is not None:
            raise InputError(f"{where}: {str(rows.strange)[:100]!r} in {split} is not text")
        if not rows.numbers:
            raise InputError(
                f"{where}: {split} has no text in any of its {rows.count - rows.unlabelled} rows with a label"
            )
        splits[split] = rows
    for lacking in ("label", "character"):
        counts = {
            split: rows.unlabelled if lacking == "label" else len(rows.dropped) - rows.unlabelled
            for split, rows in splits.items()
        }
        if total := sum(counts.values()):
            shown = ", ".join(f"{count} in {split}" for split, count in counts.items() if count)
            warnings.warn(f"{where}: dropped {total} texts without a {lacking}: {shown}", stacklevel=3)

    name_of = list(numbers)
    train = splits["train"].numbers
    seen = [name_of[number] for number in np.unique(np.asarray(train))]
    if len(seen) < 2:
        raise InputError(
            f"{where}: all of the {len(train)} training texts have the label {seen[0]!r}: "
            "there is nothing to tell apart"
        )
    names = tuple(declared) if declared is not None else tuple(sorted(seen, key=_by_value))
    place_of = {name: place for place, name in enumerate(names)}
    places = np.array([place_of.get(name, -1) for name in name_of], dtype=np.int32)
    corpus = {}
    for split, rows in splits.items():
        labels = places[np.asarray(rows.numbers)]
        if labels.min() < 0:
            unknown = Counter(name_of[number] for number in rows.numbers if places[number] < 0)
            shown = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(5))
            raise InputError(
                f"{where}: {unknown.total()} of {len(labels)} {split} texts have a label that no training text has: "
                f"{shown}{', ...' if len(unknown) > 5 else ''}; the labels are {', '.join(names[:10])}"
            )
        corpus[split] = _labelled(tables[split], rows, labels)
    return LabelledCorpus(names, corpus)


@dataclass
class _Rows:
    """What is found of a split: the label of each row that is kept, as a number; the texts of those, of a small split;
    the rows that are dropped; and why."""

    texts: list[str] | None
    numbers: array = field(default_factory=lambda: array("i"))
    dropped: array = field(default_factory=lambda: array("q"))
    count: int = 0
    unlabelled: int = 0
    strange: Any = None
    """The first that is no text, nor None."""


def _read(table: Any, declared: Sequence[str] | None, numbers: dict[str, int]) -> _Rows:
    """New names of labels are added to `numbers`."""
    in_memory = isinstance(table, dict)
    rows = _Rows(None if not in_memory and is_large(table) else [])
    blocks: Iterable[Mapping[str, Sequence[Any]]] = (
        [table] if in_memory else columns.text_batches(table, "text", "label")
    )
    for block in blocks:
        kept = []
        for text, label in zip(block["text"], block["label"], strict=True):
            name = _label_name(label, declared)
            rows.unlabelled += name is None
            is_text = isinstance(text, str)
            if rows.strange is None and not is_text:
                rows.strange = text
            if name is not None and is_text and text and not text.isspace():
                kept.append(text)
                rows.numbers.append(numbers.setdefault(name, len(numbers)))
            else:
                rows.dropped.append(rows.count)
            rows.count += 1
        if rows.texts is not None:
            rows.texts += kept
    return rows


def _labelled(table: Any, rows: _Rows, labels: np.ndarray) -> LabelledTexts:
    if rows.texts is not None:
        return LabelledTexts(rows.texts, labels.tolist())
    if rows.dropped:
        table = table.select(np.delete(np.arange(rows.count), np.asarray(rows.dropped)))
    return LabelledTexts(MappedTexts(table), array("i", labels.tobytes()))


def _label_name(label: Any, declared: Sequence[str] | None) -> str | None:
    """None where there is no label: empty, or -1 of the declared ones, as the hub has it."""
    if declared is not None and isinstance(label, int):
        return declared[label] if 0 <= label < len(declared) else None
    return None if label is None or not str(label).strip() else str(label)


def _by_value(name: str) -> tuple[bool, int, str]:
    # Python refuses to read numbers of some thousand digits.
    number = name.removeprefix("-").isdecimal() and len(name) < 1000
    return (not number, int(name) if number else 0, name)
