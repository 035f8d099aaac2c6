"""The rows of a table, checked: in memory, and of large files in an Arrow file of the cache, which is mapped."""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from minitransformer.data import remembered as notes
from minitransformer.data.arrow_file import arrow_file, mapped_rows, noted, write_note, write_rows
from minitransformer.data.remembered import remembered, sha256
from minitransformer.data.splits import Rows, Table
from minitransformer.data.tables import RawTable
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

_SURROGATES = re.compile("[\ud800-\udfff]")

_FORMAT = "2"
"""Another number wherever what is kept of a table changes: it is then read anew."""
_BATCH = 4_000_000
"""Characters, after which a batch of rows is written."""


class Dropped(NamedTuple):
    """How many rows there were, in how many of them a needed column is empty, and the places of the first five."""

    rows: int
    dropped: int
    first: list[int]


def table_rows(raw: RawTable, columns: dict[str, str]) -> Rows:
    """Columns of a table as strings, {name there: name here}, without the rows where one that is needed is empty, of
    which a warning tells. `InputError` where there is no other row, and for values that are no text.

    Of files of `remembered.LARGE` bytes or more it is a mapped data set, whose fingerprint says what is in it. That is
    made once, in the cache folder: its name is a hash of the files, how they are read, the columns and the format.
    """
    if sum(file.stat().st_size for file in raw.files) >= notes.LARGE:
        return _mapped(raw, columns)
    whole = _WholeRows(raw, columns)
    table: Table = {name: [] for name in columns.values()}
    for batch in whole.batches():
        for texts, more in zip(table.values(), batch, strict=True):
            texts.extend(more)
    _warn_of_dropped(raw, columns, whole.found)
    return table


def _mapped(raw: RawTable, columns: dict[str, str]) -> "datasets.Dataset":
    import pyarrow

    hashes = [remembered(file, "sha256", partial(sha256, file)) for file in raw.files]
    path = arrow_file(_FORMAT, raw.kind, json.dumps(columns), *hashes)
    note = noted(path, *Dropped._fields)
    if note is None:
        whole = _WholeRows(raw, columns)
        schema = pyarrow.schema([(name, pyarrow.string()) for name in columns.values()])

        def batches() -> Iterator[pyarrow.RecordBatch]:
            for batch in whole.batches():
                yield pyarrow.record_batch(batch, schema=schema)
            raw.require_unchanged()

        write_rows(path, schema, batches())
        note = write_note(path, whole.found._asdict())
    _warn_of_dropped(raw, columns, Dropped(**note))
    return mapped_rows(path)


def _warn_of_dropped(raw: RawTable, columns: dict[str, str], found: Dropped) -> None:
    if found.dropped:
        places = ", ".join(map(str, found.first)) + (", ..." if found.dropped > 5 else "")
        dropped = f"dropped {found.dropped} of {found.rows} rows, where {_empty(columns)}"
        warnings.warn(f"{raw.path}: {dropped}: {raw.unit} {places}", stacklevel=3)


def _empty(columns: dict[str, str]) -> str:
    return f"{' or '.join(there for there, here in columns.items() if _is_needed(here))} is empty"


def _is_needed(column: str) -> bool:
    return column != "format"


class _WholeRows:
    """The rows of a table as texts, without those where a column that is needed is empty, which it counts."""

    def __init__(self, raw: RawTable, columns: dict[str, str]):
        self.raw, self.columns = raw, columns
        self.rows, self.dropped, self.first = 0, 0, list[int]()

    @property
    def found(self) -> Dropped:
        return Dropped(self.rows, self.dropped, self.first)

    def batches(self) -> Iterator[list[list[str]]]:
        """The columns of some rows at a time. There are such rows, and nothing is wrong with any, where it comes to its
        end."""
        batch, size = [list[str]() for _ in self.columns], 0
        for place, values in self.raw.read(list(self.columns)):
            self.rows += 1
            texts = self._texts(place, values)
            if texts is None:
                self.dropped += 1
                if len(self.first) < 5:
                    self.first.append(place)
                continue
            for column, text in zip(batch, texts, strict=True):
                column.append(text)
                size += len(text)
            if size > _BATCH:
                yield batch
                batch, size = [[] for _ in self.columns], 0
        if self.dropped == self.rows:
            raise InputError(f"{self.raw.path}: in each of the {self.rows} rows, {_empty(self.columns)}")
        yield batch

    def _texts(self, place: int, values: Sequence[Any]) -> list[str] | None:
        """None where one that is needed is empty."""
        texts, whole = [], True
        for (there, here), value in zip(self.columns.items(), values, strict=True):
            if isinstance(value, str):
                if not value.isascii() and _SURROGATES.search(value):  # JSON spells halves of characters: "\\ud800"
                    raise self._refused(place, f"{there!r} holds half a character: {value[:100]!r}")
            elif value is None:
                value = ""
            elif here == "label" and isinstance(value, int):
                value = str(value)
            else:
                raise self._refused(place, f"{there!r} is {repr(value)[:100]}, which is not text")
            if (not value or value.isspace()) and _is_needed(here):
                whole = False
            texts.append(value)
        return texts if whole else None

    def _refused(self, place: int, what: str) -> InputError:
        return InputError(f"{self.raw.path}, {self.raw.unit} {place}: {what}")
