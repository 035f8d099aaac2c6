"""The formats of tables: .csv, .tsv, .jsonl and .parquet, each read row by row."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from minitransformer.data.remembered import remembered, watched
from minitransformer.data.running_text import read_lines, require_text
from minitransformer.data.tables import RawTable
from minitransformer.errors import InputError
from minitransformer.untrusted import shown

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")

_MOST_UNPACKED = 2000
"""A Parquet file's bytes may become so many times as many: repeated rows take next to no room in it."""

_MOST_NAMES = 1000
"""Of columns in a .jsonl file: what has more is no table, but lines with keys of their own."""

_Rows = Iterator[tuple[int, Sequence[Any]]]
_Format = tuple[list[str], Callable[[Sequence[str]], _Rows]]
"""The names of the columns, and how to read some of them (see `RawTable`)."""


def read_table(path: Path) -> RawTable:
    """A file of one of these formats. Its rows are not read yet, but for the keys of a .jsonl file."""
    require_unchanged = watched(path)
    kind = path.suffix.lower()
    if kind == ".parquet":
        names, read = _parquet(path)
    else:
        require_text(path)
        names, read = _jsonl(path) if kind == ".jsonl" else _csv(path, tabs=kind == ".tsv")
    return RawTable((path,), kind, names, read, require_unchanged, unit="row" if kind == ".parquet" else "line")


def _csv(path: Path, *, tabs: bool) -> _Format:
    """Rows after one header line, or what `has_header` finds to be none. With `tabs`, a quote is a character like any
    other (IANA's rule for TSV)."""
    first = _records(path, tabs)
    _, header = next(first)
    if not header:
        raise InputError(f"{path}, line 1 is blank: it has to name the columns, or be the first row")
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise InputError(
            f"{path}: two columns have one name in {shown(header)}: name them apart; a pair needs a header above it"
        )
    if next(first, None) is None:
        raise InputError(f"{path} has a header, {shown(header)}, and no rows")
    number_of = {name: number for number, name in enumerate(header)}

    def read(names: Sequence[str]) -> _Rows:
        numbers, blank = [number_of[name] for name in names], [""] * len(header)
        for place, row in islice(_records(path, tabs), 1, None):
            if row and len(row) != len(header):
                raise InputError(
                    f"{path}, line {place}: {len(row)} fields, but the header names {len(header)} columns: "
                    f"{str(row)[:100]}"
                )
            fields = row or blank
            yield place, [fields[number] for number in numbers]

    return list(number_of), read


def _records(path: Path, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; a quoted field may run over several."""
    lines = (f"{line}\n" for line in read_lines(path))
    if tabs:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(lines, strict=True)
    place = 1
    try:
        for record in reader:
            yield place, record
            place = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {place}: not readable as CSV: {error}") from error


def _jsonl(path: Path) -> _Format:
    """One JSON object a line; a key that a line lacks is an empty field."""

    def read(names: Sequence[str]) -> _Rows:
        for place, row in _objects(path):
            yield place, [row.get(name) for name in names]

    return json.loads(remembered(path, "JSON keys", partial(_keys, path))), read


def _keys(path: Path) -> str:
    """All of them, as JSON of ASCII alone: there may be half a character in one, which no file of UTF-8 can hold."""
    names = dict[str, None]()
    for place, row in _objects(path):
        names |= dict.fromkeys(row)
        if len(names) > _MOST_NAMES:
            raise InputError(f"{path}, line {place}: more than {_MOST_NAMES:,} distinct keys: it is refused")
    return json.dumps(list(names))


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no JSONDecodeError
            raise InputError(f"{path}, line {place}: not readable as JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {place}: {line[:100]!r} is not a JSON object with a key for each column")
        yield place, row


def _parquet(path: Path) -> _Format:
    with _opened(path) as file:
        names, count = file.schema_arrow.names, file.metadata.num_rows
        _require_flat_dictionaries(path, file.schema_arrow)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have one name in {shown(names)}")
    if count == 0:
        raise InputError(f"{path} has no rows")
    return names, partial(_parquet_rows, path)


def _parquet_rows(path: Path, names: Sequence[str]) -> _Rows:
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
    """A `pyarrow.parquet.ParquetFile`, and what it says of a file that is none as `InputError`."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20) as file:  # else a column of a row group is read whole
            yield file
    # Of what it does not know or finds damaged it says so in many ways; only the operating system's are no verdict.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError, KeyError) as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise InputError(f"{path} is not readable as Parquet: {' '.join(str(error).split())[:300]}") from error


def _require_flat_dictionaries(path: Path, schema: Any) -> None:
    """`InputError` for a dictionary within a list or the like, one row of which may stand for any number of bytes."""
    from pyarrow.types import is_dictionary, is_nested

    for field in schema:
        kind = field.type.value_type if is_dictionary(field.type) else field.type
        if "dictionary<" in str(kind) or (kind is not field.type and is_nested(kind)):
            raise InputError(f"{path}: column {field.name!r} is of {shown(str(field.type))}, which is not read")
