"""Tables in files: what is known of one before its rows are read, and which of its columns to read."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError
from minitransformer.untrusted import shown

_NAME = re.compile(r"[A-Za-z_]([\w.:-]*\w)?", re.ASCII)


@dataclass(frozen=True)
class RawTable:
    """A table as its file has it, or two files that have a column each.

    `read` goes through the rows anew each time: of each it gives the place, counted from 1 in `unit`s, and the values
    of the columns that are asked for. `kind` is how the bytes are read, so that it and they say all that there is to
    say of the rows. `require_unchanged` raises `InputError` if the files are no longer what they were at first.
    """

    files: tuple[Path, ...]
    kind: str
    names: Sequence[str]
    read: Callable[[Sequence[str]], Iterator[tuple[int, Sequence[Any]]]]
    require_unchanged: Callable[[], None]
    unit: str = "line"

    @property
    def path(self) -> Path:
        return self.files[0]


def choose_columns(names: Sequence[str], source: str | None, target: str | None, *, where: object) -> dict[str, str]:
    """The columns to keep, as {name there: name here}; `where` is what to call the table in an error.

    In this order: the ones asked for; source and target; text and label; the two there are, besides an index (a column
    without a name, or called index or id) and `format`; text. Pairs keep a `format` column.
    """
    if source is not None and target is not None:
        missing = [name for name in (source, target) if name not in names]
        if missing:
            raise InputError(f"{where} has no column {' and '.join(map(repr, missing))}; it has {shown(list(names))}")
        if source == target:
            raise InputError(f"{where}: source and target are both {source!r}")
        pair = [source, target]
    elif source is not None or target is not None:
        raise InputError(f"source={source!r} and target={target!r}: give both, or neither")
    elif "source" in names and "target" in names:
        pair = ["source", "target"]
    elif "text" in names and "label" in names:
        return {"text": "text", "label": "label"}
    else:
        pair = [name for name in names if name not in ("", "index", "id", "format") and not _is_pandas_index(name)]
        if len(pair) != 2:
            if "text" in names:
                return {"text": "text"}
            raise InputError(
                f"{where}: which columns of {shown(list(names))} to read? Name them with source= and target="
            )
    chosen = dict(zip(pair, ("source", "target"), strict=True))
    return chosen if "format" not in names else {"format": "format"} | chosen


def has_header(raw: RawTable, source: str | None, target: str | None) -> bool:
    """Whether the first line of a .tsv file names its columns.

    Pairs often come without a header: two columns, the first translated into the second. Their first line is a header
    if it holds `source` and `target`, or "text", or if it reads as names do: each cell is one word of ASCII letters,
    digits and "_-.:" that ends in a letter or digit ("en", "human_date"), or an index. "Hi." and "Good day" are none.
    All other tables have a header.
    """
    names = raw.names
    if raw.kind != ".tsv" or len(names) != 2 or {source, target} == set(names) or "text" in names:
        return True
    return all(not name or _is_pandas_index(name) or _NAME.fullmatch(name) for name in names)


def with_first_row(raw: RawTable, names: Sequence[str]) -> RawTable:
    """A table that was read as if it had a header: what was taken for one is its first row, and its columns have these
    names."""
    there = dict(zip(names, raw.names, strict=True))

    def read(chosen: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
        first = [there[name] for name in chosen]
        yield 1, first
        yield from raw.read(first)

    return replace(raw, kind=f"{raw.kind} without a header, {' '.join(names)}", names=names, read=read)


def _is_pandas_index(name: str) -> bool:
    return name.startswith(("Unnamed: ", "__index_level_"))
