"""Which columns of a table hold the texts: the rule for headers and the rule for columns, the same for every kind."""

import re
import warnings
from collections.abc import Sequence
from itertools import chain, compress
from pathlib import Path
from typing import Literal, NamedTuple

from minitransformer.errors import InputError
from minitransformer.untrusted import shown

Kind = Literal["pairs", "text", "labelled"]

SAMPLE = 1000
"""Rows below the first line that the rule for headers looks at."""

_NAMES_OF: dict[str, set[str]] = {
    "pairs": {"source", "target", "format"},
    "text": {"text", "sentence"},
    "labelled": {"text", "sentence", "label"},
}
_KNOWN = {*chain.from_iterable(_NAMES_OF.values())}
_INDEX = ("", "index", "idx", "id")
_WORD = re.compile(r"[A-Za-z_]([\w.:-]*\w)?", re.ASCII)


class Wanted(NamedTuple):
    """What the caller of `load` asks for: the kind of corpus, and names of columns."""

    kind: Kind | None = None
    source: str | None = None
    target: str | None = None
    text: str | None = None
    label: str | None = None

    @property
    def names(self) -> list[str]:
        return [name for name in self[1:] if name is not None]

    def require_consistent(self, where: object) -> None:
        """`InputError` for names of columns that the kind does not have."""
        of_pairs, of_texts = (self.source, self.target) != (None, None), (self.text, self.label) != (None, None)
        if of_pairs and (of_texts or self.kind in ("text", "labelled")):
            raise InputError(
                f"{where}: source={self.source!r} and target={self.target!r} name the columns of pairs, but "
                f"{'text= and label= are given too' if of_texts else f'kind={self.kind!r} is asked for'}"
            )
        if (of_texts and self.kind == "pairs") or (self.label is not None and self.kind == "text"):
            raise InputError(f"{where}: kind={self.kind!r} has no columns text={self.text!r} and label={self.label!r}")


def names_without_header(path: Path, rows: Sequence[Sequence[str]], wanted: Wanted) -> list[str] | None:
    """The names to give the columns of a .csv or .tsv file without a header; None where its first line is a header.

    `rows` are the first rows of the file. The first line is a header if one of its names was asked for, if it has
    names of the kind (two of source, target and format; one of text, sentence and label), or if one names an index
    (nothing, index, idx, id) above whole numbers. It is guessed to be one if it has a single one of these names, if a
    cell that is no whole number stands above whole numbers alone, if a table of three or more columns has a name of an
    index, or if each cell is one word of ASCII letters, digits and "_-.:" and none occurs again in its column in the
    next `SAMPLE` rows. A warning tells of a guess.

    A warning tells of a missing header. The columns are then called by their numbers, from 1. Columns of text have
    names instead: the two of a pair are source and target; of a labelled text, the column with fewer different entries
    is label and the other one text; a single column is text. Empty columns, whole numbers and Tatoeba's credits are
    not text.
    """
    first, columns = rows[0], _columns_below(rows)
    numbers = [str(number) for number in range(1, 1 + len(first))]
    by_number = bool(wanted.names) and {*wanted.names} <= {*numbers}
    if {*first} & {*wanted.names}:
        return None
    if not by_number and (sure := _is_header(first, columns, wanted)) is not None:
        if not sure:
            names_of = {"pairs": "source= and target=", "text": "text=", "labelled": "text= and label="}
            ways = [names_of[wanted.kind]] if wanted.kind else names_of.values()
            warnings.warn(
                f"{path}: its first line, {shown(list(first))}, is taken for a header: if it is a row, put a header "
                f"above it; if it is a header, naming its columns ({' or '.join(ways)}) ends this warning",
                stacklevel=2,
            )
        return None
    if wanted.names and not by_number:
        raise InputError(
            f"{path} has no header, so no column {' and '.join(map(repr, wanted.names))}: its first line is "
            f"{shown(list(first))}; add a header, or name columns by their numbers, 1 to {len(first)}"
        )
    cells = [[name, *column] for name, column in zip(first, columns, strict=True)]
    names = numbers if by_number else _names_by_content(path, cells, wanted)
    read_as = " and ".join(name for name in names if name not in numbers)
    left_out = ", ".join(name for name in names if name in numbers)
    said = f"{read_as}; left out: column {left_out}" if read_as and left_out else read_as or f"columns {left_out}"
    warnings.warn(f"{path} has no header: its first line, {shown(list(first))}, is read as {said}", stacklevel=2)
    return names


def looks_like_header(rows: Sequence[Sequence[str]], wanted: Wanted) -> bool:
    """Whether the first of these rows would be taken for a header."""
    return _is_header(rows[0], _columns_below(rows), wanted) is not None


def _columns_below(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    width = len(rows[0])
    return [[row[place] for row in rows[1:] if len(row) == width] for place in range(width)]


def _is_header(first: Sequence[str], columns: Sequence[Sequence[str]], wanted: Wanted) -> bool | None:
    """True if the first line surely is a header, False for a guess, None if it is a row."""
    known = {*first} & (_NAMES_OF[wanted.kind] if wanted.kind else _KNOWN)
    above_numbers = [not name.isdecimal() and _all_numbers(column) for name, column in zip(first, columns, strict=True)]
    enough = 1 if wanted.kind in ("text", "labelled") else min(2, len(first))
    if len(known) >= enough or any(map(is_index, compress(first, above_numbers))):
        return True
    words = all(is_index(name) or _WORD.fullmatch(name) for name in first) and len({*first}) == len(first)
    again = any(name in column for name, column in zip(first, columns, strict=True))
    index = len(first) > 2 and any(is_index(name) and any(column) for name, column in zip(first, columns, strict=True))
    return False if (words and not again) or index or any(above_numbers) or known else None


def _names_by_content(path: Path, columns: Sequence[Sequence[str]], wanted: Wanted) -> list[str]:
    """The names of the columns of a file without a header, by what the cells of its first rows are."""
    names = [str(number) for number in range(1, 1 + len(columns))]
    if wanted.kind == "labelled" and len(columns) == 2:
        texts, labels = (len({*column}) for column in columns)
        if texts == labels:
            raise InputError(
                f"{path} has no header, and both columns have {texts} different entries: add a header, or "
                "name them with text= and label= by their numbers, 1 and 2"
            )
        return ["text", "label"] if labels < texts else ["label", "text"]
    roles = {"text": ["text"], "labelled": []}.get(wanted.kind or "pairs", ["source", "target"])
    places = list(range(len(columns)))
    if len(columns) > len(roles):
        places = [place for place, column in enumerate(columns) if not _is_beside_text(column)]
    if len(places) == len(roles):
        for place, role in zip(places, roles, strict=True):
            names[place] = role
    return names


def is_index(name: str) -> bool:
    """Whether a column of this name numbers the rows: it has no name, or is called index, idx or id."""
    return name in _INDEX or name.startswith(("Unnamed: ", "__index_level_"))


def _all_numbers(column: Sequence[str]) -> bool:
    return bool(column) and all(cell.isdecimal() for cell in column)


def _is_beside_text(column: Sequence[str]) -> bool:
    return not any(column) or _all_numbers(column) or all("CC-BY" in cell or "CC0" in cell for cell in column)


def choose_columns(names: Sequence[str], wanted: Wanted, where: object) -> dict[str, str]:
    """The columns to read, as {name there: name here}, in the order source, target, format or text, label.

    Columns that were asked for come first. Otherwise pairs are source and target, or the only two columns besides an
    index and `format`; texts are text or sentence, or the only column besides an index and the label; labels are label.
    If the caller wants no kind, two columns text (or sentence) and label are labelled texts, two others are pairs.
    """
    if missing := [name for name in wanted.names if name not in names]:
        raise InputError(f"{where} has no column {' and '.join(map(repr, missing))}; it has {shown(list(names))}")
    kind, others = wanted.kind or _kind_of(names, wanted), [name for name in names if not is_index(name)]
    chosen: dict[str, str | None]
    if kind == "pairs":
        if (wanted.source is None) != (wanted.target is None):
            raise InputError(f"{where}: source={wanted.source!r} and target={wanted.target!r}: give both, or neither")
        pair = [name for name in others if name != "format"]
        if "source" in names and "target" in names:
            pair = ["source", "target"]
        if len(pair) != 2 or _are_labelled(names):
            pair = [""] * 2
        chosen = {"source": wanted.source or pair[0], "target": wanted.target or pair[1]}
    elif kind == "labelled":
        label = wanted.label or ("label" if "label" in names and wanted.text != "label" else None)
        text = wanted.text or _text_of([name for name in others if name != label])
        rest = [name for name in others if name != text]
        chosen = {"text": text, "label": label or (rest[0] if text and len(rest) == 1 else None)}
    else:
        chosen = {"text": wanted.text or _text_of([name for name in others if name != "label"])}
    if not all(chosen.values()):
        roles = " and ".join(chosen)
        raise InputError(
            f"{where}: which columns of {shown(list(names))} to read as {roles}? Name them with "
            f"{' and '.join(f'{role}=' for role in chosen)}"
        )
    if len(set(chosen.values())) < len(chosen):
        raise InputError(f"{where}: {' and '.join(chosen)} are both {next(iter(chosen.values()))!r}")
    kept = {str(there): here for here, there in chosen.items()}
    return kept | ({"format": "format"} if kind == "pairs" and "format" in names and "format" not in kept else {})


def _kind_of(names: Sequence[str], wanted: Wanted) -> Kind:
    if wanted.source is not None or wanted.target is not None or {"source", "target"} <= {*names}:
        return "pairs"
    if wanted.label is not None or (wanted.text is not None and "label" in names) or _are_labelled(names):
        return "labelled"
    pair = [name for name in names if not is_index(name) and name != "format"]
    return "text" if wanted.text is not None or (len(pair) != 2 and _text_of(pair) is not None) else "pairs"


def _are_labelled(names: Sequence[str]) -> bool:
    return "label" in names and ("text" in names or "sentence" in names)


def _text_of(names: Sequence[str]) -> str | None:
    """The column that holds the texts: called text or sentence, or the only one."""
    return next((name for name in ("text", "sentence") if name in names), names[0] if len(names) == 1 else None)
