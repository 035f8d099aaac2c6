"""Splitting a corpus that comes without splits."""

import random
from typing import Any

from minitransformer.errors import InputError

Table = dict[str, list[str]]
"""Columns of equal length, by name."""
Rows = Table | Any
"""In memory, or a `datasets.Dataset` that is mapped."""

PARTS = ("train", "validation", "test")


def grouped_split(table: Table, *, by: str, seed: int = 0) -> dict[str, Table]:
    """Train, validation and test parts of which no two share a value of column `by`.

    Rows are deduplicated; the n distinct values of `by` are sorted, then shuffled by `random.Random(seed)`; rows with
    the first n // 10 values are test, with the next n // 10 validation, and all others train, in their old order.
    """
    rows = list(dict.fromkeys(zip(*table.values(), strict=True)))
    values = sorted(set(table[by]))
    tenth = tenth_of(len(values), by)
    random.Random(seed).shuffle(values)
    part_of = dict.fromkeys(values, "train")
    part_of |= dict.fromkeys(values[:tenth], "test")
    part_of |= dict.fromkeys(values[tenth : 2 * tenth], "validation")

    parts: dict[str, Table] = {part: {name: [] for name in table} for part in PARTS}
    place = list(table).index(by)
    for row in rows:
        for name, value in zip(table, row, strict=True):
            parts[part_of[row[place]]][name].append(value)
    return parts


def tenth_of(count: int, by: str) -> int:
    """How many of the distinct values of column `by` are test, and as many validation. `InputError` for none."""
    if count < 10:
        raise InputError(
            f"{count} distinct values of {by!r} are too few to split (10 at least): "
            "give a folder with train and validation files"
        )
    return count // 10


def last_tenth_split(text: str) -> dict[str, Table]:
    """Train and validation parts of running text: the first int(0.9 · n) of its n characters, and the rest."""
    cut = int(0.9 * len(text))
    if len(text) < 10:
        raise InputError(
            f"{len(text)} characters are too few to split (10 at least): give a folder with train and validation files"
        )
    return {"train": {"text": [text[:cut]]}, "validation": {"text": [text[cut:]]}}
