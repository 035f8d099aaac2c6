"""One table in a file: .csv, .tsv, .jsonl or .parquet, read as text."""

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from minitransformer.data.splits import Table
from minitransformer.errors import InputError
from minitransformer.untrusted import shown

_SURROGATES = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z_]([\w.:-]*\w)?", re.ASCII)
_MOST_UNPACKED = 2000
"""A Parquet file's bytes may become so many times as many: repeated rows take next to no room in it."""

_MOST_NAMES = 1000
"""Of columns in a .jsonl file: what has more is no table, but lines with keys of their own."""


@dataclass(frozen=True)
class RawTable:
    """A table as its file has it, before columns are chosen. `places` are line numbers (or rows), counted from 1."""

    path: Path
    columns: Mapping[str, Sequence[Any]]
    places: Sequence[int]
    unit: str = "line"


class RowColumns(Mapping[str, list[Any]]):
    """The columns of rows, each made when it is asked for: a table may have a thousand, and two are read. `values`
    gives those of one column."""

    def __init__(self, names: Iterable[str], values: Callable[[str], Iterable[Any]]):
        self.names, self.values_of = dict.fromkeys(names), values

    def __getitem__(self, name: str) -> list[Any]:
        self.names[name]  # a KeyError for any other
        return list(self.values_of(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_table(path: Path) -> RawTable:
    """A .csv, .tsv, .jsonl or .parquet file."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet(path)
    return _jsonl(path) if kind == ".jsonl" else _csv(path, tabs=kind == ".tsv")


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
    names = list(raw.columns)
    if raw.path.suffix.lower() != ".tsv" or len(names) != 2 or {source, target} == set(names) or "text" in names:
        return True
    return all(not name or _is_pandas_index(name) or _NAME.fullmatch(name) for name in names)


def with_first_row(raw: RawTable, names: Sequence[str]) -> RawTable:
    """A table that was read as if it had a header: what was taken for one is its first row, and its columns have these
    names."""
    columns = {name: [first, *rest] for name, (first, rest) in zip(names, raw.columns.items(), strict=True)}
    return replace(raw, columns=columns, places=[1, *raw.places])


def _is_pandas_index(name: str) -> bool:
    return name.startswith(("Unnamed: ", "__index_level_"))


def with_columns(raw: RawTable, names: dict[str, str]) -> Table:
    """The columns `names` of a table, as strings, without the rows where one that is needed is empty."""
    table = {here: _as_text(raw, there, label=here == "label") for there, here in names.items()}
    needed = {there: table[here] for there, here in names.items() if here != "format"}
    kept = [all(field and not field.isspace() for field in fields) for fields in zip(*needed.values(), strict=True)]
    if all(kept):
        return table
    first = islice((place for place, keep in zip(raw.places, kept, strict=True) if not keep), 5)
    warn_of_empty(raw.path, needed, kept.count(False), len(kept), list(first), unit=raw.unit)
    return {name: list(compress(column, kept)) for name, column in table.items()}


def warn_of_empty(
    path: Path, needed: Iterable[str], dropped: int, count: int, first: Sequence[int], *, unit: str = "line"
) -> None:
    """Tell of the rows that were dropped because a column that is needed is empty, of which the `first` five are at
    these places; `InputError` where all of them were."""
    empty = f"{' or '.join(needed)} is empty"
    if dropped == count:
        raise InputError(f"{path}: in each of the {count} rows, {empty}")
    if dropped:
        places = ", ".join(map(str, first)) + (", ..." if dropped > 5 else "")
        warnings.warn(f"{path}: dropped {dropped} of {count} rows, where {empty}: {unit} {places}", stacklevel=3)


def _as_text(raw: RawTable, name: str, *, label: bool) -> list[str]:
    column = []
    for place, value in zip(raw.places, raw.columns[name], strict=True):
        if value is None:
            value = ""
        elif label and isinstance(value, int):
            value = str(value)
        elif not isinstance(value, str):
            raise InputError(f"{raw.path}, {raw.unit} {place}: {name!r} is {repr(value)[:100]}, which is not text")
        elif not value.isascii() and _SURROGATES.search(value):  # JSON spells halves of characters: "\\ud800"
            raise InputError(f"{raw.path}, {raw.unit} {place}: {name!r} holds half a character: {value[:100]!r}")
        column.append(value)
    return column


def read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x}"
        raise InputError(f"{path}, line {line}: {found} is not UTF-8; save the file in that encoding") from error
    if not text.strip():
        raise InputError(f"{path} is empty")
    return text


def text_lines(text: str) -> list[str]:
    # Not str.splitlines, which also splits where a line has a form feed or a Unicode line separator in it.
    return text.removesuffix("\n").split("\n")


def _csv(path: Path, *, tabs: bool) -> RawTable:
    """Rows after one header line, or what `has_header` finds to be none. With `tabs`, a quote is a character like any
    other (IANA's rule for TSV)."""
    if tabs:
        reader = csv.reader(io.StringIO(read_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    records = _records(reader, path)
    _, header = next(records)
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise InputError(
            f"{path}: two columns have one name in {shown(header)}: name them apart; a pair needs a header above it"
        )
    places, rows, blank = [], [], [""] * len(header)
    for place, row in records:
        if row and len(row) != len(header):
            raise InputError(
                f"{path}, line {place}: {len(row)} fields, but the header names {len(header)} columns: {str(row)[:100]}"
            )
        places.append(place)
        rows.append(row or blank)
    if not rows:
        raise InputError(f"{path} has a header, {shown(header)}, and no rows")
    column = {name: number for number, name in enumerate(header)}
    return RawTable(path, RowColumns(header, lambda name: map(itemgetter(column[name]), rows)), places)


def _records(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; a quoted field may run over several."""
    place = 1
    try:
        for record in reader:
            yield place, record
            place = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {place}: not readable as CSV: {error}") from error


def _jsonl(path: Path) -> RawTable:
    """One JSON object a line; a key that a line lacks is an empty field."""
    lines = text_lines(read_text(path))
    rows, names, blank = [], dict[str, None](), dict[str, Any]()
    for place, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else blank
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no JSONDecodeError
            raise InputError(f"{path}, line {place}: not readable as JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {place}: {line[:100]!r} is not a JSON object with a key for each column")
        rows.append(row)
        names |= dict.fromkeys(row)
        if len(names) > _MOST_NAMES:
            raise InputError(f"{path}, line {place}: more than {_MOST_NAMES:,} distinct keys: it is refused")
    columns = RowColumns(names, lambda name: (row.get(name) for row in rows))
    return RawTable(path, columns, range(1, len(rows) + 1))


def _parquet(path: Path) -> RawTable:
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {}
    room = 1_000_000 + _MOST_UNPACKED * path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _require_flat_dictionaries(path, file.schema_arrow)
            # No value is larger than its row group, so a batch of so many rows is no larger than the room there is.
            groups = [file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)]
            rows = room // max(1, *groups, 1)
            for batch in file.iter_batches(batch_size=max(1, min(rows, 1024))):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    # One value of a dictionary may stand in every row.
                    plain = column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
                    room -= plain.nbytes
                    if room < 0:
                        raise InputError(f"{path} unpacks to over {_MOST_UNPACKED:,} times its size: it is refused")
                    columns.setdefault(name, []).extend(plain.to_pylist())
    # Of what it does not know or finds damaged it says so in many ways; only the operating system's are no verdict.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError, KeyError) as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise InputError(f"{path} is not readable as Parquet: {' '.join(str(error).split())[:300]}") from error
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have one name in {shown(names)}")
    count = len(next(iter(columns.values()), []))
    if count == 0:
        raise InputError(f"{path} has no rows")
    return RawTable(path, columns, range(1, count + 1), unit="row")


def _require_flat_dictionaries(path: Path, schema: Any) -> None:
    """`InputError` for a dictionary within a list or the like, one row of which may stand for any number of bytes."""
    from pyarrow.types import is_dictionary, is_nested

    for field in schema:
        kind = field.type.value_type if is_dictionary(field.type) else field.type
        if "dictionary<" in str(kind) or (kind is not field.type and is_nested(kind)):
            raise InputError(f"{path}: column {field.name!r} is of {shown(str(field.type))}, which is not read")
