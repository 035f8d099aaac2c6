"""Tables of texts and labels in files of the user's, with or without a header."""

import warnings
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from minitransformer.data.files import SPLIT_NAMES, files_called
from minitransformer.data.mapped_splits import split_rows
from minitransformer.data.remembered import remembered
from minitransformer.data.splits import Rows
from minitransformer.data.table_formats import TABLES, read_table
from minitransformer.data.table_rows import table_rows
from minitransformer.data.tables import RawTable, with_first_row
from minitransformer.errors import InputError

_INDEX = ("", "index", "idx", "id")
_TEXTS = ("text", "sentence")
_MOST_NEW = 1 << 20
"""Hashes that are counted together, to see which of them are the same."""


def read_labelled(path: Path, *, text: str | None = None, label: str | None = None, seed: int = 0) -> dict[str, Rows]:
    """The splits of a file, or of a folder of train, validation (or val, dev) and test files, with the columns `text`
    and `label`. Rows in which one of them is empty are dropped, with a counted warning; so is a whole test file without
    labels, whether their column is empty or not there.

    Of a folder, the training file says whether there is a header and which column is which.
    """
    if path.is_dir():
        files = {split: _only(files_called(path, stems), path) for split, stems in SPLIT_NAMES.items()}
        for split in ("train", "validation"):
            if files[split] is None:
                there = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
                raise InputError(f"{path} has no table called {' or '.join(SPLIT_NAMES[split])}; it has {there}")
    else:
        if not path.is_file():
            raise InputError(f"no labelled texts in {str(path)!r}: it is no file or folder, nor reviews or hub:NAME")
        if path.suffix.lower() not in TABLES:
            raise InputError(f"{path} is no table of texts and labels: those end in {', '.join(TABLES)}")
        files = {"train": path}
    raw = {split: read_table(file) for split, file in files.items() if file is not None}
    names = raw["train"].names
    if text is None and label is None and (found := _headerless(raw["train"])):
        for split, table in list(raw.items()):
            if split == "test" and len(table.names) == 1:
                _warn_of_no_labels(raw.pop(split))
                continue
            if len(table.names) != 2:
                raise InputError(f"{table.path} has {len(table.names)} columns, but {raw['train'].path} has 2")
            raw[split] = with_first_row(table, found)
        names = list(found)
    chosen = choose(names, text, label, where=path)
    tables = {}
    label = next(there for there, here in chosen.items() if here == "label")
    for split, table in raw.items():
        missing = [name for name in chosen if name not in table.names]
        if split == "test" and (missing == [label] or (not missing and _is_empty(table, label))):
            _warn_of_no_labels(table)
            continue
        if missing:
            raise InputError(f"{table.path} has no column {' and '.join(map(repr, missing))}: {list(table.names)}")
        tables[split] = table_rows(table, chosen)
    return tables if path.is_dir() else split_rows(tables["train"], by="text", seed=seed)


def choose(names: Sequence[str], text: str | None, label: str | None, *, where: object) -> dict[str, str]:
    """The two columns to keep, as {name there: name here}: those asked for, else label, and text, sentence, or the one
    that is left besides an index."""
    if missing := [name for name in (text, label) if name is not None and name not in names]:
        raise InputError(f"{where} has no column {' and '.join(map(repr, missing))}; it has {list(names)}")
    label = label or ("label" if "label" in names and text != "label" else None)
    others = [name for name in names if name != label and name not in _INDEX and not name.startswith("Unnamed: ")]
    text = text or next((name for name in _TEXTS if name in others), others[0] if len(others) == 1 else None)
    if label is None and text is not None and len(rest := [name for name in others if name != text]) == 1:
        label = rest[0]
    if text is None or label is None or text == label:
        raise InputError(f"{where}: which of {list(names)} are texts and labels? Name the columns with --text, --label")
    return {text: "text", label: "label"}


def _headerless(table: RawTable) -> tuple[str, str] | None:
    """What the two columns of a table without a header are; None where the first line is one.

    The first line is a header if it says "text", "sentence" or "label", or if nothing in it occurs again below it.
    Without one, the labels are the column with fewer different entries.
    """
    names = list(table.names)
    if table.path.suffix.lower() not in (".csv", ".tsv") or len(names) != 2 or {"label", *_TEXTS} & set(names):
        return None
    occurs, first, second = remembered(table.path, f"entries of two columns, {table.kind}", partial(_entries, table))
    if not occurs:
        return None
    if first == second:
        raise InputError(f"{table.path} has no header, and both columns have {first} different entries: add a header")
    return ("text", "label") if second < first else ("label", "text")


def _entries(table: RawTable) -> tuple[bool, int, int]:
    """Whether anything in the first line of two columns occurs again below it, and how many different entries each
    column has, with the first line."""
    occurs, columns = False, [_Different(name) for name in table.names]
    for _, entries in table.read(table.names):
        for column, name, entry in zip(columns, table.names, entries, strict=True):
            occurs = occurs or entry == name
            column.add(entry)
    first, second = (column.count() for column in columns)
    return occurs, first, second


class _Different:
    """Counts different texts, with 8 bytes for each, a hash, and 32 while new ones are put among them."""

    def __init__(self, text: str):
        self.known, self.new = np.empty(0, dtype=np.int64), array("q", [hash(text)])

    def add(self, text: str) -> None:
        self.new.append(hash(text))
        if len(self.new) > max(_MOST_NEW, len(self.known)):
            self.count()

    def count(self) -> int:
        self.known, self.new = np.union1d(self.known, self.new), array("q")
        return len(self.known)


def _is_empty(table: RawTable, column: str) -> bool:
    return not any(value is not None and str(value).strip() for _, (value,) in table.read([column]))


def _warn_of_no_labels(table: RawTable) -> None:
    warnings.warn(f"{table.path}: test has no labels and is left out", stacklevel=3)


def _only(files: list[Path], folder: Path) -> Path | None:
    tables = [file for file in files if file.suffix.lower() in TABLES]
    if len(tables) > 1:
        raise InputError(f"{folder} has several files for one split, {', '.join(f.name for f in tables)}: keep one")
    return tables[0] if tables else None
