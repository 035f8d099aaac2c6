"""Corpora in files of the user's: tables, text, line-aligned pairs, and folders of them.

Everything is read as text in UTF-8 (with or without a byte order mark, any line ends), and kept as it is: "007", "NA"
and "2011-05-19" stay those strings. A row with an empty field that is needed is dropped, with a warning.
"""

import errno
import warnings
from collections.abc import Sequence
from pathlib import Path

from minitransformer.data.aligned import aligned_rows
from minitransformer.data.mapped_splits import split_rows
from minitransformer.data.running_text import read_text
from minitransformer.data.splits import Rows, last_tenth_split
from minitransformer.data.table_formats import TABLES, read_table
from minitransformer.data.table_rows import table_rows
from minitransformer.data.tables import choose_columns, has_header, with_first_row
from minitransformer.errors import InputError
from minitransformer.untrusted import PICKLES, pickle_refused, require_sane_file, shown

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}
_READABLE = (*TABLES, ".txt")


def read(path: Path, *, source: str | None = None, target: str | None = None, seed: int = 0) -> dict[str, Rows]:
    """The splits of a file, of a pair of files `path`.`source` and `path`.`target`, or of a folder.

    A folder has its splits in files called train, validation (or val, dev) and test. Without them, pairs are split by
    target and other rows by text (see `grouped_split`). A .txt file is one row, of which the last tenth of the
    characters is validation. A .tsv file of two columns needs no header (see `tables.has_header`).

    What comes of large tables and aligned files are mapped data sets (see `table_rows`); all else is in memory.
    """
    if path.is_dir():
        return _read_folder(path, source, target)
    files = [path] if path.is_file() else files_called(path.parent, (path.name,))
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no such file or folder, nor files of that name with a suffix", str(path))
    table = _read_table(path, source, target) if path.is_file() else _read_one(files, source, target)
    if [file.suffix.lower() for file in files] == [".txt"]:
        return last_tenth_split(table["text"][0])
    return split_rows(table, by="target" if "target" in _names(table) else "text", seed=seed)


def _read_folder(folder: Path, source: str | None, target: str | None) -> dict[str, Rows]:
    found = {split: files_called(folder, stems) for split, stems in SPLIT_NAMES.items()}
    for split in ("train", "validation"):
        if not found[split]:
            there = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
            way_out = f"; give the path {folder / 'train'} to have a tenth of train set apart" if found["train"] else ""
            raise InputError(f"{folder} has no file called {' or '.join(SPLIT_NAMES[split])}; it has {there}{way_out}")
    header = None
    if [file.suffix.lower() for file in found["train"]] == [".tsv"]:
        header = has_header(read_table(found["train"][0]), source, target)
    tables = {split: _read_one(files, source, target, header) for split, files in found.items() if files}
    names = {split: _names(rows) for split, rows in tables.items()}
    for split, columns in names.items():
        if {*columns} - {"format"} != {*names["train"]} - {"format"}:
            raise InputError(f"{folder}: train has columns {names['train']}, but {split} has {columns}")
    return tables


def _names(rows: Rows) -> list[str]:
    return list(rows) if isinstance(rows, dict) else rows.column_names


def text_files(folder: Path) -> dict[str, Path]:
    """The splits of a folder whose every split is one .txt file; nothing if that is not what it holds."""
    found = {split: files_called(folder, stems) for split, stems in SPLIT_NAMES.items()}
    there = {split: files for split, files in found.items() if files}
    whole = {"train", "validation"} <= there.keys()
    if not whole or any(len(files) != 1 or files[0].suffix.lower() != ".txt" for files in there.values()):
        return {}
    return {split: files[0] for split, files in there.items()}


def files_called(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files of a folder that bear one of these names, whatever their suffix. `InputError` for a link out of it."""
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.stem in stems and file.suffix)
    for file in files:
        require_sane_file(file, most_bytes=None)
    return files


def _read_one(
    files: list[Path],
    source: str | None,
    target: str | None,
    header: bool | None = None,
) -> Rows:
    """One split from the files that bear its name: a line-aligned pair, or the one that is readable by itself. `header`
    says whether a .tsv file has one, as the training file of its folder has; None leaves that to its first line."""
    folder, names = files[0].parent, ", ".join(file.name for file in files)
    if len({file.stem for file in files}) > 1:
        raise InputError(f"{folder} has several files for one split, {names}: keep one")
    by_suffix = {file.suffix.removeprefix("."): file for file in files}
    if source in by_suffix and target in by_suffix:
        if source == target:
            raise InputError(f"{by_suffix[source]}: source and target are both {source!r}")
        return aligned_rows(by_suffix[source], by_suffix[target])
    readable = [file for file in files if file.suffix.lower() in _READABLE]
    if len(readable) == 1:
        return _read_table(readable[0], source, target, header)
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


def _read_table(path: Path, source: str | None, target: str | None, header: bool | None = None) -> Rows:
    kind = path.suffix.lower()
    if kind == ".txt":
        if source is not None or target is not None:
            raise InputError(f"{path} is running text: it has no columns source={source!r} and target={target!r}")
        return {"text": [read_text(path)]}
    if kind in PICKLES:
        raise pickle_refused(path, f"data end in {', '.join(_READABLE)}")
    if kind not in _READABLE:
        raise InputError(
            f"cannot read {path}: files end in {', '.join(_READABLE)}; of two line-aligned files "
            'such as train.de and train.en give the path "train", source="de" and target="en"'
        )
    raw = read_table(path)
    if kind == ".tsv" and not (has_header(raw, source, target) if header is None else header or len(raw.names) != 2):
        if source is not None or target is not None:
            raise InputError(
                f"{path} has no header, so no columns {source=} and {target=}: its first line is "
                f"{shown(raw.names)}; add one, or name no columns to go from the first to the second"
            )
        warnings.warn(f"{path} has no header: its first line, {shown(raw.names)}, is read as a pair", stacklevel=2)
        raw = with_first_row(raw, ("source", "target"))
    where = f"the header of {path}" if kind in (".csv", ".tsv") else path
    return table_rows(raw, choose_columns(raw.names, source, target, where=where))
