"""Labels as numbers with names, and the checks that something can be learned from them."""

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from minitransformer.data.columns import texts
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

Splits = dict[str, "datasets.Dataset"]


def with_class_labels(splits: Mapping[str, "datasets.Dataset"]) -> Splits:
    """The column `label`, of texts or whole numbers, as a `datasets.ClassLabel` of all splits. Names are sorted, whole
    numbers by value. Of the new column each row has 8 bytes in memory."""
    import datasets

    numbers: dict[str, int] = {}
    found: dict[str, array] = {}
    for split, rows in splits.items():
        labels = (str(label).strip() for label in texts(rows, "label"))
        found[split] = array("q", (numbers.setdefault(name, len(numbers)) for name in labels))
    names = sorted(numbers, key=_by_value)
    place_of = {name: place for place, name in enumerate(names)}
    places = np.array([place_of[name] for name in numbers], dtype=np.int64)
    label, labelled = datasets.ClassLabel(names=names), {}
    for split, rows in splits.items():
        fingerprint = rows._fingerprint
        rows = rows.remove_columns("label").add_column(
            "label", places[np.asarray(found.pop(split))], feature=label, new_fingerprint=f"{fingerprint}+label"
        )
        labelled[split] = rows
    return labelled


def require_learnable(splits: Mapping[str, "datasets.Dataset"], where: object, *, declared: bool = False) -> None:
    """`InputError` where all training texts have one label, or where another split has a label that no training text
    has. Labels that were `declared` need no training text."""
    names = splits["train"].features["label"].names
    counts = {split: _counts(rows, len(names)) for split, rows in splits.items()}
    seen = counts["train"] > 0
    if seen.sum() < 2:
        raise InputError(
            f"{where}: all of the {len(splits['train'])} training texts have the label "
            f"{names[int(seen.argmax())]!r}: there is nothing to tell apart"
        )
    for split, count in counts.items():
        unknown = Counter({names[place]: int(count[place]) for place in np.flatnonzero(count * ~seen)})
        if unknown and not declared:
            shown = ", ".join(f"{name!r} ({number})" for name, number in unknown.most_common(5))
            known = [name for name, there in zip(names, seen, strict=True) if there]
            raise InputError(
                f"{where}: {unknown.total()} of {len(splits[split])} {split} texts have a label that no training text "
                f"has: {shown}{', ...' if len(unknown) > 5 else ''}; the labels are {', '.join(known[:10])}"
            )


def _counts(rows: "datasets.Dataset", names: int) -> np.ndarray:
    counts = np.zeros(names, dtype=np.int64)
    for batch in rows.select_columns("label").with_format("numpy").iter(100_000):
        counts += np.bincount(batch["label"], minlength=names)
    return counts


def _by_value(name: str) -> tuple[bool, int, str]:
    # Python refuses to read numbers of some thousand digits.
    number = name.removeprefix("-").isdecimal() and len(name) < 1000
    return (not number, int(name) if number else 0, name)
