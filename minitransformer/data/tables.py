"""Tables in files: .csv, .tsv, .jsonl, .parquet and two line-aligned files, each read row by row."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from minitransformer.data.headers import SAMPLE, Wanted, names_without_header
from minitransformer.data.text_file import read_lines, require_text
from minitransformer.errors import InputError
from minitransformer.untrusted import damage_refused, shown

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")

_MOST_UNPACKED = 2000
"""A Parquet file may unpack to this many times its bytes: repeated rows take next to no room in it."""
_MOST_NAMES = 1000
"""Columns of a .jsonl file. A file with more holds lines with keys of their own, not a table."""
_LONGEST_FIELD = (1 << 31) - 1
"""In characters, in a .csv file: the most that the csv module takes on every system."""

Row = tuple[int, Sequence[Any]]
"""The number of the line (of a Parquet file, the row), counted from 1, and the values of some columns."""


class NothingLeftError(InputError):
    """In each row a needed column is empty, or it is not there. A test split may then be left out."""


@dataclass(frozen=True)
class Table:
    """The names of the columns, and `read`, which goes through the rows again at every call and gives the values of the
    columns that are asked for. `reading` says how the bytes of `files` become rows: it and the bytes determine them."""

    files: tuple[Path, ...]
    reading: str
    names: list[str]
    read: Callable[[Sequence[str]], Iterator[Row]]
    has_header: bool = True
    unit: str = "line"

    @property
    def path(self) -> Path:
        return self.files[0]


def read_table(path: Path, wanted: Wanted, like: Table | None = None) -> Table:
    """A file of one of the `TABLES`. In a .csv or .tsv file the first line is a header or not: see
    `names_without_header`, or, of the other files in its folder, `like`, the training table, says so."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet(path)
    require_text(path)
    if kind == ".jsonl":
        return _jsonl(path)
    return _delimited(path, wanted, like)


def _delimited(path: Path, wanted: Wanted, like: Table | None) -> Table:
    tabs = path.suffix.lower() == ".tsv"
    rows = [row for _, row in islice(_records(path, tabs), 1 + SAMPLE)]
    first = rows[0]
    if not first:
        raise InputError(f"{path}, line 1 is blank: it has to name the columns, or be the first row")
    if like is None:
        names = names_without_header(path, rows, wanted)
    elif like.has_header:
        names = None
    else:
        names = like.names
        if len(first) != len(names):
            unlabelled = len(first) == 1 and "label" in names
            raise (NothingLeftError if unlabelled else InputError)(
                f"{path} has {len(first)} columns, but {like.path} has {len(names)}, without a header"
            )
    has_header, names = names is None, first if names is None else names
    if has_header:
        if len(set(names) - {""}) < len(names) - names.count(""):
            raise InputError(f"{path}: two columns have one name in {shown(names)}: rename one")
        if len(rows) == 1:
            raise InputError(f"{path} has a header, {shown(first)}, and no rows")
    place_of, width = {name: place for place, name in enumerate(names)}, len(names)

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        places, blank = [place_of[name] for name in chosen], [""] * width
        for line, row in islice(_records(path, tabs), int(has_header), None):
            if row and len(row) != width:
                raise InputError(
                    f"{path}, line {line}: {len(row)} fields, but the first line has {width}: {str(row)[:100]}"
                )
            fields = row or blank
            yield line, [fields[place] for place in places]

    return Table((path,), f"{path.suffix.lower()}, header {has_header}", list(place_of), read, has_header)


def _records(path: Path, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; a quoted field may run over several lines. With `tabs`, a quote is a
    character like any other (IANA's rule for TSV)."""
    lines = (f"{line}\n" for line in read_lines(path))
    if tabs:
        yield from ((place, line[:-1].split("\t") if line != "\n" else []) for place, line in enumerate(lines, start=1))
        return
    reader = csv.reader(lines, strict=True)
    place = 1
    try:
        while True:
            # The limit of a field's length, 131,072 characters, is the process's: it is lifted for our own reader only.
            limit = csv.field_size_limit(_LONGEST_FIELD)
            try:
                record = next(reader, None)
            finally:
                csv.field_size_limit(limit)
            if record is None:
                return
            yield place, record
            place = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {place}: not readable as CSV: {error}") from error


def _jsonl(path: Path) -> Table:
    """One JSON object a line. The columns are the keys of the first `SAMPLE` lines; a key that a line lacks is an empty
    field."""
    names = dict[str, None]()
    for line, row in islice(_objects(path), SAMPLE):
        names |= dict.fromkeys(row)
        if len(names) > _MOST_NAMES:
            raise InputError(f"{path}, line {line}: more than {_MOST_NAMES:,} distinct keys: it is refused")

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        for line, row in _objects(path):
            yield line, [row.get(name) for name in chosen]

    return Table((path,), ".jsonl", list(names), read)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no JSONDecodeError
            raise InputError(f"{path}, line {line}: not readable as JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {line}: {text[:100]!r} is not a JSON object with a key for each column")
        yield line, row


def _parquet(path: Path) -> Table:
    with _opened(path) as file:
        names, count = file.schema_arrow.names, file.metadata.num_rows
        _require_flat_dictionaries(path, file.schema_arrow)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have one name in {shown(names)}")
    if count == 0:
        raise InputError(f"{path} has no rows")
    return Table((path,), ".parquet", names, partial(_parquet_rows, path), unit="row")


def _parquet_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    from pyarrow.types import is_dictionary

    place, room = 0, 1_000_000 + _MOST_UNPACKED * path.stat().st_size
    with _opened(path) as file:
        # No value is larger than its row group, so a batch of so many rows is no larger than the room there is.
        groups = [file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)]
        rows = room // max(1, *groups, 1)
        for batch in file.iter_batches(batch_size=max(1, min(rows, 1024)), columns=list(names)):
            columns = []
            for name in names:
                column = batch.column(name)
                # One value of a dictionary may stand in every row.
                plain = column.dictionary_decode() if is_dictionary(column.type) else column
                room -= plain.nbytes
                if room < 0:
                    raise InputError(f"{path} unpacks to over {_MOST_UNPACKED:,} times its size: it is refused")
                columns.append(plain.to_pylist())
            for values in zip(*columns, strict=True):
                place += 1
                yield place, values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. pyarrow's errors about a damaged file, of many classes, become `InputError`."""
    import pyarrow
    from pyarrow import parquet

    errors = pyarrow.ArrowException, OverflowError, MemoryError, TypeError, KeyError
    with (
        damage_refused(f"{path} is not readable as Parquet", *errors),
        parquet.ParquetFile(path, buffer_size=1 << 20) as file,  # without it a row group's column is read whole
    ):
        yield file


def _require_flat_dictionaries(path: Path, schema: Any) -> None:
    """`InputError` for a dictionary inside a list or the like: one of its rows may stand for any number of bytes."""
    from pyarrow.types import is_dictionary, is_nested

    for field in schema:
        kind = field.type.value_type if is_dictionary(field.type) else field.type
        if "dictionary<" in str(kind) or (kind is not field.type and is_nested(kind)):
            raise InputError(f"{path}: column {field.name!r} is of {shown(str(field.type))}, which is not read")


def aligned_table(source: Path, target: Path) -> Table:
    """Line n of one file beside line n of another; the columns are called by the files' suffixes. `InputError` if one
    file has more lines."""
    files = source, target
    for file in files:
        require_text(file)
    names = [file.suffix.removeprefix(".") for file in files]

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        places = [names.index(name) for name in chosen]
        for line, pair in _aligned_lines(files):
            yield line, [pair[place] for place in places]

    return Table(files, "aligned", names, read)


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
