"""Rows as memory-mapped data sets: checked, written once into the cache folder and found there by their content."""

import hashlib
import json
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from minitransformer.data.cache_folder import cache_folder, made_once
from minitransformer.data.tables import NothingLeftError, Table
from minitransformer.errors import InputError
from minitransformer.files import sha256, write_json
from minitransformer.untrusted import read_json

if TYPE_CHECKING:
    import datasets

_ROWS, _NOTE = "rows.arrow", "note.json"
_FORMAT = "4"
"""To be changed whenever other rows are made of the same files, so that those in the cache are made again."""
_TOGETHER = 1 << 20
"""Characters of the rows that are written together, and so are in memory together. To map the file, the beginning of
each such batch is read, with the pages around it: with 1,000 short rows in a batch that was most of the file."""
Generated = Generator[dict[str, Any], None, dict[str, Any]]
_SURROGATES = regex.compile("[\ud800-\udfff]")
_BLANK = regex.compile(r"[\s\p{Cc}\p{Default_Ignorable_Code_Point}\u2800]*")
"""What nobody sees: white space, control characters, zero-width spaces, fillers, the braille blank."""


def table_rows(table: Table, columns: Mapping[str, str]) -> "datasets.Dataset":
    """Columns of a table as text, {name there: name here}, without the rows where one that is needed is empty, or has
    no visible character, and without those that are the header again. Warnings count these, each time. `InputError` for
    a column that is missing and for values that are not text; `NothingLeftError` if no row is left, or if labels alone
    are missing. A `format` may be missing or empty."""
    if missing := {there: here for there, here in columns.items() if there not in table.names and here != "format"}:
        left = f"{table.where} has no column {' and '.join(map(repr, missing))}: it has {table.names}"
        raise (NothingLeftError if [*missing.values()] == ["label"] else InputError)(left)
    columns = {there: here for there, here in columns.items() if there in table.names}
    is_empty = f"{' or '.join(there for there, here in columns.items() if here != 'format')} is empty"

    def rows() -> Generated:
        count, dropped, first = 0, [0, 0], (list[int](), list[int]())
        for place, values in table.read(list(columns)):
            row = {}
            for (there, here), value in zip(columns.items(), values or (), strict=values is not None):
                if (text := _text(value, here)) is None:
                    shown = repr(value)[:100]
                    wrong = "holds half a character" if isinstance(value, str) else "is not text: write it as text"
                    raise InputError(f"{table.where}, {table.unit} {place}: {there!r} is {shown}, which {wrong}")
                row[here] = text
            count += 1
            if row and not any(_BLANK.fullmatch(text) for here, text in row.items() if here != "format"):
                yield row
            else:
                why = 1 if values is None else 0
                dropped[why] += 1
                first[why].extend([place] if dropped[why] <= 5 else [])
        if sum(dropped) == count:
            raise NothingLeftError(f"{table.where}: in each of the {count} rows, {is_empty}")
        return {"rows": count, "dropped": dropped, "first": first}

    reading = table.reading, json.dumps(list(columns.items()))
    dataset, note = stored(table.files, reading, dict.fromkeys(columns.values(), "string"), rows)
    why = f"where {is_empty}", "which are the header again"
    for number, first, reason in zip(note["dropped"], note["first"], why, strict=True):
        if number:
            places = ", ".join(map(str, first)) + (", ..." if number > 5 else "")
            dropped = f"dropped {number} of {note['rows']} rows, {reason}"
            warnings.warn(f"{table.where}: {dropped}: {table.unit} {places}", stacklevel=3)
    return dataset


def _text(value: Any, column: str) -> str | None:
    """A value as text: "" for null and NaN, which stand in a gap. A label may be a whole number. None for others."""
    if isinstance(value, str):  # JSON can spell half a character: "\\ud800"
        return value if value.isascii() or not _SURROGATES.search(value) else None
    if value is None or value != value:
        return ""
    if column == "label" and isinstance(value, int | float) and value == value // 1:
        return str(value if isinstance(value, int) else int(value))  # pandas makes floats of numbers with gaps
    return None


def stored(
    files: Sequence[Path], reading: Sequence[str], columns: Mapping[str, str], rows: Callable[[], Generated]
) -> tuple["datasets.Dataset", dict[str, Any]]:
    """The `rows` of some files as a memory-mapped data set with these `columns` (and their types), and the note that
    the generator returns at its end.

    They are generated once. The name of the data set in the cache, which is its fingerprint, is a hash of the bytes of
    the files and of `reading`, which has to say all else that determines the rows.
    """
    import datasets
    import pyarrow

    before = [_identity(file) for file in files]
    what = json.dumps([_FORMAT, list(reading), [sha256(file) for file in files]])
    name = hashlib.sha256(what.encode()).hexdigest()[:32]
    schema = pyarrow.schema(dict(columns))

    def make(folder: Path) -> None:
        note = dict[str, Any]()

        def noting() -> Iterator[dict[str, Any]]:
            note.update((yield from rows()))

        with (folder / _ROWS).open("wb") as file, pyarrow.ipc.new_stream(file, schema) as sink:
            for batch in _batches(noting()):
                sink.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema))
        write_json(folder / _NOTE, note)
        for path, identity in zip(files, before, strict=True):
            if _identity(path) != identity:  # the hash and the rows may be of different bytes
                raise InputError(f"{path} changed while it was read: start again")

    folder = made_once(cache_folder() / "tables" / name, make)
    mapped = datasets.table.MemoryMappedTable.from_file(str(folder / _ROWS))
    return datasets.Dataset(mapped, fingerprint=name), read_json(folder / _NOTE)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch, size = list[dict[str, Any]](), 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if size >= _TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
