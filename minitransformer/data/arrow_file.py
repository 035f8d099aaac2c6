"""Rows in Arrow files of the cache: written once, with a note beside each, and mapped into memory."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minitransformer.data.cache_file import cache_file
from minitransformer.data.mapped_file import file_name
from minitransformer.data.packages import cache_folder
from minitransformer.files import write_json

if TYPE_CHECKING:
    import datasets
    import pyarrow


def arrow_file(*parts: str) -> Path:
    """Where the rows lie of which `parts` say all that there is to say."""
    return cache_folder() / "tables" / file_name("\0".join(parts), "arrow")


def noted(path: Path, *names: str) -> Mapping[str, Any] | None:
    """These parts of what is written down beside a file; None if it is not there or not whole."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if path.stat().st_size == note["num_bytes"]:
            return {name: note[name] for name in names}
    return None


def write_rows(path: Path, schema: "pyarrow.Schema", batches: Iterable["pyarrow.RecordBatch"]) -> None:
    """A file of all batches; none if one of them raises. It counts as whole once it has a note."""
    import pyarrow

    with cache_file(path) as file, pyarrow.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_note(path: Path, note: Mapping[str, Any]) -> Mapping[str, Any]:
    """Beside a file; with its size, so that it shows whether the file is whole."""
    write_json(path.with_suffix(".json"), {"num_bytes": path.stat().st_size, **note})
    return note


def stored_batches(path: Path) -> Iterator["pyarrow.RecordBatch"]:
    """The rows of a file, not through the mapping, by which all of it would come to count as memory of this process."""
    import pyarrow

    with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as batches:
        yield from batches


def mapped_rows(path: Path) -> "datasets.Dataset":
    """Its fingerprint is the name of the file, which says what is in it."""
    import datasets

    return datasets.Dataset(datasets.table.MemoryMappedTable.from_file(str(path)), fingerprint=path.stem)
