"""A folder of text files, searched through, or a glob of them, as a corpus of documents: a file is a text.

Files are split whole, so that no text is in two splits.
"""

import glob
import hashlib
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minitransformer.data.running_text import blocks_as_rows
from minitransformer.data.stored_rows import Generated, stored
from minitransformer.data.text_file import read_blocks
from minitransformer.errors import InputError
from minitransformer.files import sha256

if TYPE_CHECKING:
    import datasets

ENDINGS = (".txt", ".md", ".py")
SPLITS = ("train", "validation", "val", "dev")
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
NAMED = 20
"""The most files that a message names."""


def document_files(path: Path) -> list[Path]:
    """The files of a corpus of documents, in order of their names; none if `path` is another kind of data.

    A folder gives the files with `ENDINGS` in it and in the folders in it, without those whose names begin with a dot.
    But a folder with a file called train or validation (or val, dev), of a kind that is read by itself, has a file a
    split. A path with `*`, `?` or `[` that is no file is a glob, `**` for any folders: it gives every file it matches.
    `InputError` if there is none, or for tables.
    """
    if path.is_dir():
        names = {file.name.lower() for file in path.iterdir()}
        if any(f"{stem}{end}" in names for stem in SPLITS for end in (".txt", *TABLES)):
            return []
        return sorted(file for file in _below(path) if file.suffix.lower() in ENDINGS)
    if path.exists() or not glob.has_magic(str(path)):
        return []
    matches = map(Path, glob.iglob(str(path), recursive=True))  # noqa: PTH207 - pathlib's finds hidden files too
    files = sorted(file for file in matches if file.is_file())
    if not files:
        raise InputError(f"no file matches {path}")
    if tables := [file for file in files if file.suffix.lower() in TABLES]:
        raise InputError(
            f"{tables[0]} is a table, which {path} cannot read as running text: give the path of one table"
        )
    return files


def read_documents(files: Sequence[Path], path: Path, seed: int) -> dict[str, "datasets.Dataset"]:
    """Train, validation and, of ten files or more, test splits of the texts in `files`, found at `path`.

    The names are shuffled by `seed`: the first tenth are test, the next tenth, one at least, validation. Rows are as of
    `text_pieces`. Files without text, and files with the bytes of an earlier one, are left out, with warnings.
    `InputError` names every file that is in another encoding than UTF-8 or UTF-16.
    """
    kept = _with_text(files, path)
    if len(kept) < 2:
        raise InputError(
            f"{path}: {len(kept)} files with text are too few to split by file: give the path of one file, whose last "
            "tenth is then validation"
        )
    shuffled = list(kept)
    random.Random(seed).shuffle(shuffled)
    tenth = len(kept) // 10
    validation = tenth + max(1, tenth)
    parts = {"train": shuffled[validation:], "validation": shuffled[tenth:validation], "test": shuffled[:tenth]}
    return {split: _texts(sorted(chosen)) for split, chosen in parts.items() if chosen}


def digest_of(files: Sequence[Path]) -> str:
    """A checksum of the names of files and of their bytes."""
    return hashlib.sha256("".join(f"{sha256(file)}  {file.name}\n" for file in files).encode()).hexdigest()


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _with_text(files: Sequence[Path], path: Path) -> list[Path]:
    kept, wrong, left_out = dict[str, Path](), list[str](), dict[str, list[str]]()
    for file in files:
        try:
            # Every block is read, and so decoded.
            has_text = sum(bool(block.strip()) for block in read_blocks(file)) > 0
        except InputError as error:
            wrong.append(str(error))
            continue
        checksum = sha256(file)
        reason = "are empty" if not has_text else "repeat another file" if checksum in kept else ""
        if reason:
            left_out.setdefault(reason, []).append(str(file))
        else:
            kept[checksum] = file
    if wrong:
        raise InputError(f"{path}: {len(wrong)} of {len(files)} files cannot be read: {_listed(wrong, '; ')}")
    for reason, found in left_out.items():
        counts = f"{len(found)} of {len(files)} files {reason} and are left out"
        warnings.warn(f"{path}: {counts}: {_listed(found)}", stacklevel=3)
    return list(kept.values())


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more


def _texts(files: Sequence[Path]) -> "datasets.Dataset":
    def rows() -> Generated:
        count = 0
        for file in files:
            for row in blocks_as_rows(read_blocks(file)):
                yield row
                count += 1
        return {"rows": count}

    return stored(files, ("documents",), {"text": "string", "continues": "bool"}, rows)[0]
