"""Labels as numbers with names, and the checks that something can be learned from them."""

import re
import unicodedata
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minitransformer.data.columns import texts
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

_WHOLE = re.compile(r"-?\d+(\.0+)?")
_MARKS = re.compile(r"[-–—―?.…*/_~\s]+")
_GAP = re.compile(
    r"[(<\[#]?-?(nan|none|null|nil|n/?a|missing|empty|blank)[)>\]]?|#(value|ref|num|name|div/0)[!?]", re.I
)
"""What people, pandas and spreadsheets write where there is nothing."""


def with_class_labels(
    splits: Mapping[str, "datasets.Dataset"], where: object = "", declared: Sequence[str] | None = None
) -> dict[str, "datasets.Dataset"]:
    """The column `label` as a `datasets.ClassLabel` of all splits. Names are those `declared`, in their order, else
    what the labels are without the white space around them, sorted, whole numbers by value. Where all are whole
    numbers, 1.0 is 1.

    A warning tells of labels that differ by such white space or .0 alone, and so are one, and of labels that are two
    but look like one (by their case, the form of their Unicode, invisible characters, or as 1 and 1.0 beside labels
    that are no whole numbers), and of those that look like a gap. Of the new column each row has 8 bytes in memory.
    """
    import datasets

    numbers: dict[str, int] = {}
    found = {
        split: array("i", (numbers.setdefault(label, len(numbers)) for label in texts(rows, "label")))
        for split, rows in splits.items()
    }
    name_of = {label: label if declared is not None else label.strip() for label in numbers}
    whole = declared is None and all(map(_WHOLE.fullmatch, name_of.values()))
    if whole:
        name_of = {label: name.partition(".")[0] for label, name in name_of.items()}
    names = sorted({*name_of.values()}, key=_by_value) if declared is None else list(declared)
    count = Counter(name_of.values())
    if merged := [label for label, name in name_of.items() if label != name and count[name] > 1]:
        what = f"white space around labels{', or .0 behind whole numbers,' if whole else ''} is left out"
        warnings.warn(f"{where}: {what}: {_pairs(merged, name_of.get)}", stacklevel=3)
    likely = dict[str, str]()
    for name in names:
        likely.setdefault(_likeness(name), name)
    if alike := [name for name in names if likely[_likeness(name)] != name]:
        similar = _pairs(alike, lambda name: likely[_likeness(name)])
        warnings.warn(f"{where}: labels that look alike are different labels: {similar}", stacklevel=3)
    place_of = {name: place for place, name in enumerate(names)}
    places = np.array([place_of[name] for name in name_of.values()], dtype=np.int64)
    words = any(map(str.isalnum, "".join(names)))  # "-" beside "+" is no gap
    if gaps := [name for name in names if _GAP.fullmatch(name) or (words and _MARKS.fullmatch(name))]:
        of = Counter(places[np.concatenate([*found.values()])].tolist())
        shown = ", ".join(f"{name!r} ({of[place_of[name]]:,})" for name in gaps)
        warnings.warn(
            f"{where}: labels that look like a gap are labels: {shown}; where nothing is known, leave the field empty",
            stacklevel=3,
        )
    label = datasets.ClassLabel(names=names)
    return {
        split: rows.remove_columns("label").add_column(
            "label", places[np.asarray(found.pop(split))], feature=label, new_fingerprint=f"{rows._fingerprint}+label"
        )
        for split, rows in splits.items()
    }


def _pairs(labels: Sequence[str], other: Callable[[str], str | None]) -> str:
    shown = ", ".join(f"{label!r} and {other(label)!r}" for label in labels[:3])
    return f"{shown}{f' and {len(labels) - 3} more' if len(labels) > 3 else ''}"


def _likeness(label: str) -> str:
    """The same for labels that look alike."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", label).casefold() if unicodedata.category(c) != "Cf")
    return re.sub(r"^(-?\d+)\.0+$", r"\1", " ".join(shown.split()))


def require_learnable(splits: Mapping[str, "datasets.Dataset"], where: object, *, declared: bool = False) -> None:
    """`InputError` where all training texts have one label, or where another split has a label that no training text
    has. Of labels that were `declared`, a warning counts those texts. Splits without labels pass."""
    if "label" not in splits["train"].features:
        return
    names = splits["train"].features["label"].names
    counts = {split: Counter(texts(rows, "label")) for split, rows in splits.items()}
    seen = sorted(counts["train"])
    if len(seen) < 2:
        raise InputError(
            f"{where}: all of the {len(splits['train'])} training texts have the label "
            f"{names[seen[0]]!r}: there is nothing to tell apart"
        )
    for split, count in counts.items():
        unknown = Counter({names[place]: count[place] for place in sorted(count.keys() - counts["train"])})
        if not unknown:
            continue
        shown = ", ".join(f"{name!r} ({number})" for name, number in unknown.most_common(5))
        message = (
            f"{where}: {unknown.total()} of {len(splits[split])} {split} texts have a label that no training text "
            f"has: {shown}{', ...' if len(unknown) > 5 else ''}"
        )
        if not declared:
            raise InputError(f"{message}; the labels are {', '.join(names[place] for place in seen[:10])}")
        warnings.warn(f"{message}: a classifier cannot learn it", stacklevel=2)


def _by_value(name: str) -> tuple[bool, int, str]:
    # Python refuses to read numbers of some thousand digits.
    number = name.removeprefix("-").isdecimal() and len(name) < 1000
    return (not number, int(name) if number else 0, name)
