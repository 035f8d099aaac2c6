"""Pairs in two files, line n of the one with line n of the other. Large ones become an Arrow file of the cache, which
is mapped into memory."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minitransformer.data import remembered as notes
from minitransformer.data.cache_file import cache_file
from minitransformer.data.mapped_file import file_name
from minitransformer.data.packages import cache_folder
from minitransformer.data.remembered import remembered, sha256, watched
from minitransformer.data.running_text import read_lines
from minitransformer.data.splits import Table
from minitransformer.data.tables import RawTable, read_text, text_lines, warn_of_empty, with_columns
from minitransformer.errors import InputError
from minitransformer.files import write_json

if TYPE_CHECKING:
    import datasets

_FORMAT = "1"
"""Another number wherever what is kept of two files changes: they are then read anew."""
_BATCH = 4_000_000
"""Characters, after which a batch of rows is written."""


class Dropped(NamedTuple):
    """How many rows there were, how many of them had an empty side, and the lines of the first few of those."""

    rows: int
    dropped: int
    first: list[int]


def aligned_table(source: Path, target: Path) -> Table:
    """The columns source and target, without the pairs that have an empty side, of which a warning tells. `InputError`
    for files with different numbers of lines."""
    source_lines, target_lines = text_lines(read_text(source)), text_lines(read_text(target))
    counts = len(source_lines), len(target_lines)
    if counts[0] != counts[1]:
        longer = source_lines if counts[0] > counts[1] else target_lines
        raise _not_aligned((source, target), counts, longer[min(counts)])
    columns = {"source": source_lines, "target": target_lines}
    return with_columns(
        RawTable(source, columns, range(1, len(source_lines) + 1)), {"source": "source", "target": "target"}
    )


def aligned_rows(source: Path, target: Path) -> "Table | datasets.Dataset":
    """The same, of large files as a mapped data set, whose fingerprint says what is in it.

    It is made once, in the cache folder: its name is a hash of both files and the format.
    """
    if source.stat().st_size + target.stat().st_size < notes.LARGE:
        return aligned_table(source, target)
    import datasets

    checks = [watched(file) for file in (source, target)]
    hashes = [remembered(file, "sha256", partial(sha256, file)) for file in (source, target)]
    path = cache_folder() / "tables" / file_name("\0".join((_FORMAT, *hashes)), "arrow")
    found = _known(path) or _write(path, source, target, checks)
    warn_of_empty(source, ("source", "target"), found.dropped, found.rows, found.first)
    return datasets.Dataset(datasets.table.MemoryMappedTable.from_file(str(path)), fingerprint=path.stem)


def _known(path: Path) -> Dropped | None:
    """What is written down beside a file; None if it is not there or not whole."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if path.stat().st_size == note["num_bytes"]:
            return Dropped(note["rows"], note["dropped"], note["first"])
    return None


def _write(path: Path, source: Path, target: Path, checks: list[Callable[[], None]]) -> Dropped:
    import pyarrow

    schema = pyarrow.schema([("source", pyarrow.string()), ("target", pyarrow.string())])
    pairs = _Pairs(source, target)
    with cache_file(path) as file, pyarrow.ipc.new_stream(file, schema) as writer:
        for sides in pairs.batches():
            writer.write_batch(pyarrow.record_batch(list(sides), schema=schema))
        for require_unchanged in checks:
            require_unchanged()
    found = Dropped(pairs.rows, pairs.dropped, pairs.first)
    # Last: where it is, and says the size, the file beside it is whole.
    write_json(path.with_suffix(".json"), {"num_bytes": path.stat().st_size, **found._asdict()})
    return found


class _Pairs:
    """The pairs of two files, read line by line, without those that have an empty side, which it counts."""

    def __init__(self, source: Path, target: Path):
        self.files = source, target
        self.rows, self.dropped, self.first = 0, 0, list[int]()

    def batches(self) -> Iterator[tuple[list[str], list[str]]]:
        """Sources and targets. Nothing is wrong with the files where it comes to its end."""
        sides, size = (list[str](), list[str]()), 0
        for pair in self._whole_pairs():
            for side, text in zip(sides, pair, strict=True):
                side.append(text)
                size += len(text)
            if size > _BATCH:
                yield sides
                sides, size = ([], []), 0
        if self.dropped == self.rows:
            warn_of_empty(self.files[0], ("source", "target"), self.dropped, self.rows, self.first)
        yield sides

    def _whole_pairs(self) -> Iterator[tuple[str, str]]:
        counts, surplus = [0, 0], None
        for source, target in zip_longest(*map(read_lines, self.files)):
            if source is None or target is None:
                surplus = (target if source is None else source) if surplus is None else surplus
                counts[target is not None] += 1
                continue
            self.rows += 1
            if source and target and not source.isspace() and not target.isspace():
                yield source, target
                continue
            self.dropped += 1
            if len(self.first) < 5:
                self.first.append(self.rows)
        if surplus is not None:
            raise _not_aligned(self.files, (self.rows + counts[0], self.rows + counts[1]), surplus)


def _not_aligned(files: tuple[Path, Path], counts: tuple[int, int], first: str) -> InputError:
    """`first` is the first line that the longer file has more."""
    source, target = files
    longer = source if counts[0] > counts[1] else target
    surplus = f"{max(counts) - min(counts)} more, from line {min(counts) + 1}, {first[:50]!r}"
    return InputError(
        f"{source} has {counts[0]} lines, but {target} has {counts[1]}: {longer.name} has {surplus}, on; "
        "line n of the one must belong to line n of the other"
    )
