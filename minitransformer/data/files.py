"""Corpora in files of the user's: tables, text, line-aligned pairs, and folders of them.

Everything is read as text in UTF-8 (with or without a byte order mark, any line ends), and kept as it is: "007", "NA"
and "2011-05-19" stay those strings. A row with an empty field that is needed is dropped, with a warning.
"""

import csv
import errno
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from minitransformer.data.splits import Table, grouped_split, last_tenth_split
from minitransformer.errors import InputError
from minitransformer.untrusted import PICKLES, pickle_refused

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}
_READABLE = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MOST_UNPACKED = 2000
"""A Parquet file's bytes may become so many times as many: repeated rows take next to no room in it."""


@dataclass(frozen=True)
class RawTable:
    """A table as its file has it, before columns are chosen. `places` are line numbers (or rows), counted from 1."""

    path: Path
    columns: Mapping[str, Sequence[Any]]
    places: Sequence[int]
    unit: str = "line"


def read(path: Path, *, source: str | None = None, target: str | None = None, seed: int = 0) -> dict[str, Table]:
    """The splits of a file, of a pair of files `path`.`source` and `path`.`target`, or of a folder.

    A folder has its splits in files called train, validation (or val, dev) and test. Without them, pairs are split by
    target and other rows by text (see `grouped_split`). A .txt file is one row, of which the last tenth of the
    characters is validation.
    """
    if path.is_dir():
        return _read_folder(path, source, target)
    files = [path] if path.is_file() else files_called(path.parent, (path.name,))
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no such file or folder, nor files of that name with a suffix", str(path))
    table = _read_table(path, source, target) if path.is_file() else _read_one(files, source, target)
    if "target" in table:
        return grouped_split(table, by="target", seed=seed)
    if [file.suffix.lower() for file in files] == [".txt"]:
        return last_tenth_split(table["text"][0])
    return grouped_split(table, by="text", seed=seed)


def _read_folder(folder: Path, source: str | None, target: str | None) -> dict[str, Table]:
    found = {split: files_called(folder, stems) for split, stems in SPLIT_NAMES.items()}
    for split in ("train", "validation"):
        if not found[split]:
            there = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
            way_out = f"; give the path {folder / 'train'} to have a tenth of train set apart" if found["train"] else ""
            raise InputError(f"{folder} has no file called {' or '.join(SPLIT_NAMES[split])}; it has {there}{way_out}")
    tables = {split: _read_one(files, source, target) for split, files in found.items() if files}
    for split, table in tables.items():
        if table.keys() - {"format"} != tables["train"].keys() - {"format"}:
            raise InputError(f"{folder}: train has columns {list(tables['train'])}, but {split} has {list(table)}")
    return tables


def text_files(folder: Path) -> dict[str, Path]:
    """The splits of a folder whose every split is one .txt file; nothing if that is not what it holds."""
    found = {split: files_called(folder, stems) for split, stems in SPLIT_NAMES.items()}
    there = {split: files for split, files in found.items() if files}
    whole = {"train", "validation"} <= there.keys()
    if not whole or any(len(files) != 1 or files[0].suffix.lower() != ".txt" for files in there.values()):
        return {}
    return {split: files[0] for split, files in there.items()}


def files_called(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files of a folder that bear one of these names, whatever their suffix."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.is_file() and file.stem in stems and file.suffix)


def _read_one(files: list[Path], source: str | None, target: str | None) -> Table:
    """One split from the files that bear its name: a line-aligned pair, or the one that is readable by itself."""
    folder, names = files[0].parent, ", ".join(file.name for file in files)
    if len({file.stem for file in files}) > 1:
        raise InputError(f"{folder} has several files for one split, {names}: keep one")
    by_suffix = {file.suffix.removeprefix("."): file for file in files}
    if source in by_suffix and target in by_suffix:
        if source == target:
            raise InputError(f"{by_suffix[source]}: source and target are both {source!r}")
        return _read_aligned(by_suffix[source], by_suffix[target])
    readable = [file for file in files if file.suffix.lower() in _READABLE]
    if len(readable) == 1:
        return _read_table(readable[0], source, target)
    if readable:
        raise InputError(f"{folder} has several files for one split, {names}: keep one, or name it in full")
    if source is None or target is None:
        raise InputError(
            f"cannot read {names} in {folder}: a split is one file in {', '.join(_READABLE)}, or two line-aligned "
            f"files whose suffixes are given; {source=} and {target=} are not two of {', '.join(by_suffix)}"
        )
    missing = [
        f"no {files[0].stem}.{suffix} for {side}={suffix!r}"
        for side, suffix in (("source", source), ("target", target))
        if suffix not in by_suffix
    ]
    raise InputError(
        f"{folder} has {names}, but {' and '.join(missing)}: the suffixes there are {', '.join(by_suffix)}"
    )


def _read_aligned(source: Path, target: Path) -> Table:
    source_lines, target_lines = _lines(_text(source)), _lines(_text(target))
    counts = len(source_lines), len(target_lines)
    if counts[0] != counts[1]:
        longer, lines = (source, source_lines) if counts[0] > counts[1] else (target, target_lines)
        surplus = f"{max(counts) - min(counts)} more, from line {min(counts) + 1}, {lines[min(counts)][:50]!r}"
        raise InputError(
            f"{source} has {counts[0]} lines, but {target} has {counts[1]}: {longer.name} has {surplus}, on; "
            "line n of the one must belong to line n of the other"
        )
    columns = {"source": source_lines, "target": target_lines}
    return with_columns(
        RawTable(source, columns, range(1, len(source_lines) + 1)), {"source": "source", "target": "target"}
    )


def _read_table(path: Path, source: str | None, target: str | None) -> Table:
    kind = path.suffix.lower()
    if kind == ".txt":
        if source is not None or target is not None:
            raise InputError(f"{path} is running text: it has no columns source={source!r} and target={target!r}")
        return {"text": [_text(path)]}
    if kind in PICKLES:
        raise pickle_refused(path, f"data end in {', '.join(_READABLE)}")
    if kind not in _READABLE:
        raise InputError(
            f"cannot read {path}: files end in {', '.join(_READABLE)}; of two line-aligned files "
            'such as train.de and train.en give the path "train", source="de" and target="en"'
        )
    raw = read_table(path)
    where = f"the header of {path}" if kind in (".csv", ".tsv") else path
    return with_columns(raw, choose_columns(list(raw.columns), source, target, where=where))


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
            raise InputError(f"{where} has no column {' and '.join(map(repr, missing))}; it has {list(names)}")
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
            raise InputError(f"{where}: which columns of {list(names)} to read? Name them with source= and target=")
    chosen = dict(zip(pair, ("source", "target"), strict=True))
    return chosen if "format" not in names else {"format": "format"} | chosen


def _is_pandas_index(name: str) -> bool:
    return name.startswith(("Unnamed: ", "__index_level_"))


def with_columns(raw: RawTable, names: dict[str, str]) -> Table:
    """The columns `names` of a table, as strings, without the rows where one that is needed is empty."""
    table = {here: _as_text(raw, there, label=here == "label") for there, here in names.items()}
    needed = {there: table[here] for there, here in names.items() if here != "format"}
    kept = [all(field and not field.isspace() for field in fields) for fields in zip(*needed.values(), strict=True)]
    if all(kept):
        return table
    empty = f"{' or '.join(needed)} is empty"
    if not any(kept):
        raise InputError(f"{raw.path}: in each of the {len(kept)} rows, {empty}")
    dropped = [str(place) for place, keep in zip(raw.places, kept, strict=True) if not keep]
    places = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
    warnings.warn(
        f"{raw.path}: dropped {len(dropped)} of {len(kept)} rows, where {empty}: {raw.unit} {places}", stacklevel=2
    )
    return {name: list(compress(column, kept)) for name, column in table.items()}


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


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x}"
        raise InputError(f"{path}, line {line}: {found} is not UTF-8; save the file in that encoding") from error
    if not text.strip():
        raise InputError(f"{path} is empty")
    return text


def _lines(text: str) -> list[str]:
    # Not str.splitlines, which also splits where a line has a form feed or a Unicode line separator in it.
    return text.removesuffix("\n").split("\n")


def _csv(path: Path, *, tabs: bool) -> RawTable:
    """Rows after one header line. With `tabs`, a quote is a character like any other (IANA's rule for TSV)."""
    if tabs:
        reader = csv.reader(io.StringIO(_text(path)), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(io.StringIO(_text(path)), strict=True)
    records = _records(reader, path)
    _, header = next(records)
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise InputError(f"{path}: two columns have one name in {header}")
    places, rows = [], []
    for place, row in records:
        if row and len(row) != len(header):
            raise InputError(
                f"{path}, line {place}: {len(row)} fields, but the header names {len(header)} columns: {str(row)[:100]}"
            )
        places.append(place)
        rows.append(row or [""] * len(header))
    if not rows:
        raise InputError(f"{path} has a header, {header}, and no rows")
    return RawTable(path, dict(zip(header, zip(*rows, strict=True), strict=True)), places)


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
    lines = _lines(_text(path))
    rows = []
    for place, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no JSONDecodeError
            raise InputError(f"{path}, line {place}: not readable as JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {place}: {line[:100]!r} is not a JSON object with a key for each column")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return RawTable(path, {name: [row.get(name) for row in rows] for name in names}, range(1, len(rows) + 1))


def _parquet(path: Path) -> RawTable:
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {}
    room = 1_000_000 + _MOST_UNPACKED * path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for batch in file.iter_batches(batch_size=1024):
                room -= batch.nbytes
                if room < 0:
                    raise InputError(f"{path} unpacks to over {_MOST_UNPACKED:,} times its size: it is refused")
                for name, column in batch.to_pydict().items():
                    columns.setdefault(name, []).extend(column)
    # Of what it does not know or finds damaged it says so in many ways; only the operating system's are no verdict.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError, KeyError) as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise InputError(f"{path} is not readable as Parquet: {' '.join(str(error).split())[:300]}") from error
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have one name in {names}")
    count = len(next(iter(columns.values()), []))
    if count == 0:
        raise InputError(f"{path} has no rows")
    return RawTable(path, columns, range(1, count + 1), unit="row")
