"""Tables of fields with a mark between them: .csv and .tsv files."""

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal

from minitransformer.data.headers import SAMPLE, Wanted, looks_like_header, names_without_header
from minitransformer.data.tables import Row, Table
from minitransformer.data.text_file import read_lines
from minitransformer.errors import InputError
from minitransformer.untrusted import shown

_LONGEST_FIELD = (1 << 31) - 1
"""In characters: the most that the csv module takes on every system."""
_ANKI = re.compile(r"#(separator|html|columns|notetype|deck|if matches|tags|(notetype|deck|tags|guid) column):.*")
"""The first lines of a file that Anki exports."""
_SEPARATOR = re.compile(r"sep=([^\w\s\"]|\t)", re.IGNORECASE)
_MARKS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":", "space": " "}
"""Anki's names of what stands between fields."""


def delimited_table(path: Path, wanted: Wanted, like: Table | None) -> Table:
    """A .csv file, or a .tsv file (any other suffix), in which a quote is a character like any other (IANA's rule), but
    where all fields are in quotes; a warning tells of fields that look quoted. A row that is the header again is None.

    The first line is a header or not: see `names_without_header`, or, of the other files in its folder, `like`, the
    training table, says so.
    """
    lines, mark = lines_above(path)
    if unread := [line for line in lines if not line.casefold().startswith(("sep=", "#separator:"))]:
        warnings.warn(f"{path}: its first lines are not read: {shown(unread)}", stacklevel=2)
    if mark is not None or path.suffix.lower() == ".csv":
        records = _csv_records(path, wanted, mark, len(lines))
    else:
        records = _tsv_records(path, len(lines))
    rows = [row for _, row in islice(records(), 1 + SAMPLE)]
    first = rows[0] if rows else []
    first[:] = (cell.strip() for cell in first)  # of a header's names; no row is read from here
    if not first:
        raise InputError(f"{path}, line 1 is blank: it has to name the columns, or be the first row")
    quoted = [cell for row in rows for cell in row if len(cell) > 1 and cell[0] == cell[-1] == '"']
    cell = next(filter(_has_doubled_quotes, quoted), quoted[0] if 2 * len(quoted) > len(rows) else None)
    if records.func is _split_lines and cell is not None:
        warnings.warn(
            f"{path}: quotes are read as characters: {shown(cell)}; where they stand around fields, call it .csv",
            stacklevel=2,
        )
    if like is None:
        names = names_without_header(path, rows, wanted)
    elif like.has_header:
        names = None
    else:
        names = like.names
        if len(first) == 1 and "label" in names:  # a test file without labels
            names = ["text"]
        elif len(first) != len(names):
            raise InputError(f"{path} has {len(first)} columns, but {like.where} has {len(names)}, without a header")
    if like is not None and not like.has_header and looks_like_header(rows, wanted):
        warnings.warn(
            f"{path}: its first line, {shown(first)}, is read as a row, as {like.where} has no header: if it is one, "
            "remove it, or add a header there",
            stacklevel=2,
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
        for line, row in islice(records(), int(has_header), None):
            if row and (len(row) < width or any(row[width:])):  # spreadsheets end some rows with empty fields
                raise InputError(
                    f"{path}, line {line}: {len(row)} fields, but the first line has {width}: {str(row)[:100]}"
                )
            same = has_header and row and row[0].strip("\ufeff ") == first[0]
            if same and [cell.strip("\ufeff ") for cell in row[:width]] == first:
                yield line, None
                continue
            fields = row or blank
            yield line, [fields[place] for place in places]

    reading = f"{path.suffix.lower()}, header {has_header}, {records.keywords}"
    return Table(str(path), list(place_of), read, (path,), reading, has_header)


def _has_doubled_quotes(cell: str) -> bool:
    """Whether a field in quotes has a quote inside, as the csv module writes it."""
    inside = cell[1:-1]
    return '""' in inside and '"' not in inside.replace('""', "")


def lines_above(path: Path) -> tuple[list[str], str | None]:
    """The lines above the rows of a file: "sep=;", which spreadsheets understand, or "#separator:Semicolon" and others
    of Anki. And the mark between fields that they name."""
    first = next(read_lines(path), "")
    if found := _SEPARATOR.fullmatch(first):
        return [first], found[1]
    lines = list(takewhile(_ANKI.fullmatch, read_lines(path)))
    named = next((line.partition(":")[2] for line in lines if line.startswith("#separator:")), None)
    mark = None if named is None else _MARKS.get(named.strip().casefold(), named)
    if mark is not None and (len(mark) != 1 or mark == '"'):
        raise InputError(f"{path}: {named!r} in its first lines is no separator: it is one of {', '.join(_MARKS)}")
    return lines, mark


def _tsv_records(path: Path, skip: int) -> "partial[Iterator[tuple[int, list[str]]]]":
    """How to read the records of a .tsv file: as lines, or, where each field below the first line is a number or in
    quotes, as pandas writes it with QUOTE_ALL or QUOTE_NONNUMERIC, as CSV with tabs, which a warning says."""
    quoted = _records(path, mark="\t", skip=skip + 1, spaces=False, quoting=csv.QUOTE_NONNUMERIC)
    try:
        rows = [row for _, row in islice(quoted, SAMPLE) if row]
    except (InputError, ValueError):  # a field without quotes is no number
        rows = []
    if not rows or not all(any(isinstance(cell, str) for cell in row) for row in rows):
        return partial(_split_lines, path, skip=skip)
    warnings.warn(f"{path} is read as CSV with tabs: its fields are in quotes, which are left out", stacklevel=3)
    return partial(_records, path, mark="\t", skip=skip, spaces=False)


def _split_lines(path: Path, skip: int) -> Iterator[tuple[int, list[str]]]:
    for place, line in enumerate(islice(read_lines(path), skip, None), start=1 + skip):
        yield place, line.split("\t") if line else []


def _csv_records(
    path: Path, wanted: Wanted, named: str | None, skip: int
) -> "partial[Iterator[tuple[int, list[str]]]]":
    """How to read the records of a .csv file.

    If no mark between fields is `named`, it is the first of comma, semicolon and tab that gives each of the first rows
    the same number of fields, two or more, and the columns that are `wanted`. Spaces before a field are left out where
    a quote follows them. Warnings tell of a mark that is not the comma, of others that would do, and of spaces that are
    left out.
    """
    marks = named or ",;\t"
    fitting = dict[str, tuple[list[str], bool]]()
    for mark in marks:
        plain, spaced = (_first_rows(path, mark=mark, skip=skip, spaces=spaces) for spaces in (False, mark != " "))
        different = [[cell.lstrip(" ") for cell in row] for row in spaced] != [
            [cell.lstrip(" ") for cell in row] for row in plain
        ]
        if rows := spaced if spaced and different else plain:
            fitting[mark] = rows[0], rows is spaced
    unusual = (mark for mark in "|¦~^" if _first_rows(path, mark=mark, skip=skip, spaces=False))
    if not fitting and not named and (other := next(unusual, None)) is not None:
        raise InputError(
            f"{path}: its fields seem to be divided by {other!r}: put a line sep={other} above the first (or sep=, if "
            "they are not)"
        )
    mark = next(
        (mark for mark, (row, _) in fitting.items() if {*wanted.names} <= {*row}), next(iter(fitting), marks[0])
    )
    spaces = mark in fitting and fitting[mark][1]
    if not named and (mark != "," or len(fitting) > 1):
        others = "".join(f", which {other!r} would be as well" for other in fitting if other != mark)
        warnings.warn(
            f"{path} is read with {mark!r} between its fields{others}: a first line sep={mark} ends this warning",
            stacklevel=2,
        )
    if spaces:
        warnings.warn(f"{path}: spaces between {mark!r} and a quote are left out", stacklevel=2)
    return partial(_records, path, mark=mark, skip=skip, spaces=spaces)


def _first_rows(path: Path, **how: Any) -> list[list[str]]:
    """The first rows, if each has the same number of fields, two or more."""
    try:
        rows = [row for _, row in islice(_records(path, **how), 1 + SAMPLE) if row]
    except InputError:
        return []
    return rows if rows and len(rows[0]) > 1 and len({*map(len, rows)}) == 1 else []


def _records(
    path: Path, *, mark: str, skip: int, spaces: bool, quoting: Literal[0, 2] = csv.QUOTE_MINIMAL
) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it starts on; a quoted field may run over several lines. Without the first `skip`
    lines, and without the `spaces` before fields."""
    lines = (f"{line}\n" for line in islice(read_lines(path), skip, None))
    reader = csv.reader(lines, delimiter=mark, strict=True, skipinitialspace=spaces, quoting=quoting)
    place = 1 + skip
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
            place = 1 + skip + reader.line_num
    except csv.Error as error:
        reason = "a carriage return in a field without quotes" if "new-line character" in str(error) else error
        raise InputError(f"{path}, line {place}: not readable as CSV: {reason}") from error
