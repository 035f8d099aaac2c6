"""A table, which is read row by row. Readers of .jsonl (or .json) files and of two line-aligned files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from minitransformer.data.cache_folder import cache_folder, made_once
from minitransformer.data.text_file import read_lines
from minitransformer.errors import InputError
from minitransformer.files import sha256
from minitransformer.untrusted import read_json, shown

PAIR = "translation"
"""The column of the hub's data sets for translation. It holds objects such as {"de": ..., "en": ...}, whose keys are
read as columns."""
_MOST_NAMES = 1000
"""Columns of a .jsonl file. A file with more holds lines with keys of their own, not a table."""

Row = tuple[int, Sequence[Any] | None]
"""The number of the line (of a Parquet file or a data set of the hub, the row), counted from 1, and the values of some
columns; None for a line that is the header again."""


class NothingLeftError(InputError):
    """In each row a needed column is empty, or it is not there. A test split may then be left out."""


@dataclass(frozen=True)
class Table:
    """The names of the columns, and `read`, which goes through the rows again at every call and gives the values of the
    columns that are asked for. The rows follow from the bytes of `files` and from `reading`. `where` is for messages.
    `labels` holds the names of the labels, in their order, of each column that declares them."""

    where: str
    names: list[str]
    read: Callable[[Sequence[str]], Iterator[Row]]
    files: tuple[Path, ...]
    reading: str
    has_header: bool = True
    unit: str = "line"
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


def jsonl_table(path: Path) -> Table:
    """One JSON object a line. The columns are the keys of all lines, which are kept in the cache; a key that a line
    lacks is an empty field."""

    def note_names(folder: Path) -> None:
        names = dict[str, None]()
        for line, row in _objects(path):
            names |= dict.fromkeys(key for key, value in row.items() if key != PAIR or value is not None)
            if len(names) > _MOST_NAMES:
                raise InputError(f"{path}, line {line}: more than {_MOST_NAMES:,} distinct keys: it is refused")
        (folder / "names").write_text(json.dumps([*names]))  # in ASCII: a key may hold half a character

    names = read_json(made_once(cache_folder() / "tables" / f"{sha256(path)[:32]}-names", note_names) / "names")

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        for line, row in _objects(path):
            yield line, [row.get(name) for name in chosen]

    return Table(str(path), names, read, (path,), ".jsonl")


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(text, object_pairs_hook=_object) if text.strip() else {}
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no JSONDecodeError
            raise InputError(f"{path}, line {line}: not readable as JSON: {error}; write one object a line") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {line}: {text[:100]!r} is not a JSON object with a key for each column; write one a line"
            )
        if isinstance(row.get(PAIR), dict):
            pair = row.pop(PAIR)
            if twice := [*(row.keys() & pair.keys())]:
                raise InputError(f"{path}, line {line}: {twice[0]!r} is a key beside {PAIR!r} and in it: rename one")
            row |= pair
        yield line, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a key is given twice among {shown([key for key, _ in pairs])}")
    return values


def aligned_table(source: Path, target: Path) -> Table:
    """Line n of one file beside line n of another; the columns are called by the files' suffixes. `InputError` if one
    file has more lines."""
    files = source, target
    names = [file.suffix.removeprefix(".") for file in files]

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        places = [names.index(name) for name in chosen]
        for line, pair in _aligned_lines(files):
            yield line, [pair[place] for place in places]

    return Table(str(source), names, read, files, "aligned")


def _aligned_lines(files: tuple[Path, Path]) -> Iterator[tuple[int, tuple[str, str]]]:
    pairs = zip_longest(*map(read_lines, files))
    for line, (source, target) in enumerate(pairs, start=1):
        if source is None or target is None:
            longer, shorter = files[::-1] if source is None else files
            more = 1 + sum(1 for _ in pairs)
            raise InputError(
                f"{shorter} has {line - 1} lines, but {longer} has {line - 1 + more}: {longer.name} has {more} more, "
                f"from line {line}, {(source or target or '')[:50]!r}, on; line n of one belongs to line n of the other"
            )
        yield line, (source, target)
