"""Corpora in the user's files: a table, running text, two line-aligned files, or a folder with a file a split.

Files are text in UTF-8, or in UTF-16 with its byte order mark (see `text_file`), kept as it is: "007", "NA" and
"2011-05-19" stay those strings.
"""

import errno
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from minitransformer.data.class_labels import require_learnable, with_class_labels
from minitransformer.data.delimited import delimited_table, lines_above
from minitransformer.data.document_files import document_files, read_documents
from minitransformer.data.headers import Wanted, choose_columns
from minitransformer.data.parquet import parquet_table
from minitransformer.data.running_text import text_pieces
from minitransformer.data.splits import grouped_split, warn_of_repeated
from minitransformer.data.stored_rows import table_rows
from minitransformer.data.tables import NothingLeftError, Table, aligned_table, jsonl_table
from minitransformer.data.text_file import read_lines, require_text
from minitransformer.errors import InputError
from minitransformer.files import require_regular
from minitransformer.untrusted import PICKLES, pickle_refused, require_sane_file

if TYPE_CHECKING:
    import datasets

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "val", "dev"), "test": ("test",)}
_READABLE = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")
_PACKED = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar")
_WAYS_OUT = {
    "save the table as .csv": (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"),
    "unpack it first": _PACKED,
    "call it .jsonl": (".ndjson", ".jsonlines"),
    "call it .tsv": (".tab",),
    "call it .txt to read it as running text": (".md", ".text", ".log", ".srt", ".vtt"),
    "save it as text, in .txt": (".docx", ".doc", ".odt", ".rtf", ".pdf", ".html", ".epub"),
}


def read(path: Path, wanted: Wanted, seed: int) -> dict[str, "datasets.Dataset"]:
    """The splits of a file, of a pair of files `path`.`source` and `path`.`target`, or of a folder.

    A folder has its splits in files called train, validation (or val, dev) and test. Its training file says whether
    there are headers and which column is which. Without splits, pairs are split by target and other rows by text (see
    `grouped_split`); the last tenth of a .txt file's characters is validation.

    Where texts are wanted, a folder without such files, and a glob, are a corpus of documents, see `document_files`.

    A .txt file is running text. But where columns are wanted and its first line has a tab, or names what stands
    between columns as `lines_above` says, it is a table.
    """
    if wanted.kind == "text" and (documents := document_files(path)):
        if wanted.names:
            raise InputError(f"{path} is running text in files: it has no column {wanted.text!r}")
        return read_documents(documents, path, seed)
    files = _files_of_splits(path, wanted)
    if any(_is_running_text(paths[0], wanted) for paths in files.values()):
        return _read_text(files, wanted, whole=path.is_dir())
    train = read_table(files["train"], wanted)
    tables = {split: train if split == "train" else read_table(paths, wanted, train) for split, paths in files.items()}
    splits = table_splits(tables, wanted)
    if path.is_dir():
        warn_of_repeated(splits, path)
    else:
        by = "target" if "target" in splits["train"].column_names else "text"
        splits = grouped_split(splits["train"], by=by, seed=seed, where=path)
        if "label" in splits["train"].column_names:
            warn_of_repeated(splits, path)
    require_learnable(splits, path)
    return splits


def table_splits(tables: Mapping[str, Table], wanted: Wanted) -> dict[str, "datasets.Dataset"]:
    """The rows of the splits' tables. The training table says which column is which. A test split without a row that
    is whole is left out, with a warning."""
    train, splits = tables["train"], {}
    columns = choose_columns(train.names, wanted, train.where)
    for split, table in tables.items():
        try:
            splits[split] = table_rows(table, columns)
        except NothingLeftError as error:
            if split != "test":
                raise
            warnings.warn(f"{error}: test is left out", stacklevel=3)
    labels = [there for there, here in columns.items() if here == "label"]
    where = train.where if len(tables) == 1 else f"{train.where} and the other splits"
    return with_class_labels(splits, where, train.labels.get(labels[0])) if labels else splits


def read_table(paths: Sequence[Path], wanted: Wanted, like: Table | None = None) -> Table:
    """A file, or two line-aligned ones. `like` is the training table of the folder, see `delimited_table`."""
    kind = paths[0].suffix.lower()
    if kind == ".parquet":
        return parquet_table(paths[0])
    for path in paths:
        require_text(path)
    if len(paths) == 2:
        return aligned_table(*paths)
    if kind == ".txt":
        warnings.warn(f"{paths[0]} is read as a table, not as running text", stacklevel=2)
    if kind in (".jsonl", ".json"):
        return jsonl_table(paths[0])
    return delimited_table(paths[0], wanted, like)


def _is_running_text(path: Path, wanted: Wanted) -> bool:
    if path.suffix.lower() != ".txt":
        return False
    if not wanted.names and wanted.kind not in ("pairs", "labelled"):
        return True
    lines, mark = lines_above(path)
    return mark is None and "\t" not in next(islice(read_lines(path), len(lines), None), "")


def _read_text(files: dict[str, tuple[Path, ...]], wanted: Wanted, *, whole: bool) -> dict[str, "datasets.Dataset"]:
    """`whole` files for the splits, or the parts of one."""
    for path, *_ in files.values():
        if path.suffix.lower() != ".txt":
            raise InputError(f"{path} is a table, but another split's file is running text: they must be alike")
        if wanted.names or wanted.kind not in (None, "text"):
            columns = wanted.names or (["source", "target"] if wanted.kind == "pairs" else ["text", "label"])
            raise InputError(
                f"{path} is running text: it has no columns {' and '.join(map(repr, columns))}; a table in a .txt file "
                "has tabs between its columns, or a first line such as sep=; that names what stands there"
            )
    if whole:
        splits = {split: text_pieces(path) for split, (path, *_) in files.items()}
        warn_of_repeated(splits, files["train"][0].parent)
        return splits
    (path,) = files["train"]
    return {"train": text_pieces(path, "first nine tenths"), "validation": text_pieces(path, "last tenth")}


def _files_of_splits(path: Path, wanted: Wanted) -> dict[str, tuple[Path, ...]]:
    """The file of each split, or its two line-aligned files; of a path without splits that of all rows, as `train`."""
    if path.is_file():
        if path.suffix.lower() not in _READABLE:
            raise _unreadable([path], wanted)
        return {"train": (path,)}
    if not path.is_dir():
        if path.exists():
            require_regular(path)
        files = files_called(path.parent, (path.name,))
        if not files:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder, nor files with a suffix", str(path))
        return {"train": _one_or_two(files, wanted)}
    found = {split: files_called(path, stems) for split, stems in SPLIT_NAMES.items()}
    chosen = {split: _one_or_two(files, wanted) for split, files in found.items() if files}
    for split in ("train", "validation"):
        if split not in chosen:
            there = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
            whole = {"train"} if "train" in chosen else {file.stem for file in path.iterdir() if file.suffix}
            way_out = f"; give the path {path / whole.pop()} to have a tenth of it set apart" if len(whole) == 1 else ""
            raise InputError(f"{path} has no file called {' or '.join(SPLIT_NAMES[split])}; it has {there}{way_out}")
    stems = tuple(stem for names in SPLIT_NAMES.values() for stem in names)
    endings = {*_READABLE, *chain.from_iterable(_WAYS_OUT.values())}
    data = (file for file in sorted(path.iterdir()) if file.suffix.lower() in endings)
    data = (file for file in data if file.name.lower().startswith(stems) and (file,) not in chosen.values())
    if left_out := [file.name for file in data]:
        warnings.warn(f"{path}: not read: {', '.join(left_out)}", stacklevel=3)
    return chosen


def files_called(folder: Path, stems: Sequence[str]) -> list[Path]:
    """The files of a folder with one of these names and any suffix; if there are none, packed ones ("train.csv.gz").
    `InputError` for a link out of the folder, and for what is no file."""
    if not folder.is_dir():
        return []
    there = sorted(file for file in folder.iterdir() if file.suffix and not file.is_dir())
    files = [file for file in there if file.stem in stems]
    files = files or [file for file in there if file.suffix in _PACKED and Path(file.stem).stem in stems]
    for file in files:
        require_regular(file)
        require_sane_file(file, most_bytes=None)
    return files


def _one_or_two(files: list[Path], wanted: Wanted) -> tuple[Path, ...]:
    """Of the files with the name of a split, the two line-aligned ones or the only one that is readable by itself."""
    source, target = wanted.source, wanted.target
    folder, names = files[0].parent, ", ".join(file.name for file in files)
    by_suffix = {file.suffix.removeprefix("."): file for file in files}
    one_stem = len({file.stem for file in files}) == 1
    if one_stem and source in by_suffix and target in by_suffix:
        if source == target:
            raise InputError(f"{by_suffix[source]}: source and target are both {source!r}")
        return by_suffix[source], by_suffix[target]
    readable = [file for file in files if file.suffix.lower() in _READABLE]
    if not readable:
        raise _unreadable(files, wanted)
    if len(readable) > 1 or not one_stem:
        raise InputError(f"{folder} has several files for one split, {names}: keep one, or name it in full")
    return (readable[0],)


def _unreadable(files: Sequence[Path], wanted: Wanted) -> InputError:
    """The error for files of a folder that are not read, which names the way out."""
    if pickled := [file for file in files if file.suffix.lower() in PICKLES]:
        return pickle_refused(pickled[0], f"data end in {', '.join(_READABLE)}")
    kinds, names = {file.suffix.lower() for file in files}, ", ".join(file.name for file in files)
    source, target, suffixes = wanted.source, wanted.target, ", ".join(file.suffix.removeprefix(".") for file in files)
    line_aligned = 'of two line-aligned files such as train.de and train.en give the path "train" or their folder, '
    line_aligned += 'source="de" and target="en"'
    if len(files) > 1 or source or target:
        line_aligned += f"; {source=} and {target=} are not two of {suffixes}"
    way_out = next((way_out for way_out, endings in _WAYS_OUT.items() if kinds & {*endings}), line_aligned)
    return InputError(f"cannot read {names} in {files[0].parent}: files end in {', '.join(_READABLE)}; {way_out}")
