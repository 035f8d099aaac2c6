"""Pairs in two files, line n of the one with line n of the other."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from minitransformer.data.remembered import watched
from minitransformer.data.running_text import read_lines
from minitransformer.data.splits import Rows
from minitransformer.data.table_rows import table_rows
from minitransformer.data.tables import RawTable
from minitransformer.errors import InputError


def aligned_rows(source: Path, target: Path) -> Rows:
    """The columns source and target (see `table_rows`). `InputError` for files with different numbers of lines."""
    files, checks = (source, target), [watched(source), watched(target)]

    def read(names: Sequence[str]) -> Iterator[tuple[int, tuple[str, str]]]:
        return _pairs(files)

    def require_unchanged() -> None:
        for require in checks:
            require()

    names = ["source", "target"]
    return table_rows(RawTable(files, "aligned", names, read, require_unchanged), {name: name for name in names})


def _pairs(files: tuple[Path, Path]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Each with the line it is in. Nothing is wrong with the files where it comes to its end."""
    pairs, counts, surplus = 0, [0, 0], None
    for source, target in zip_longest(*map(read_lines, files)):
        if source is None or target is None:
            surplus = (target if source is None else source) if surplus is None else surplus
            counts[target is not None] += 1
        else:
            pairs += 1
            yield pairs, (source, target)
    if surplus is not None:
        raise _not_aligned(files, (pairs + counts[0], pairs + counts[1]), surplus)


def _not_aligned(files: tuple[Path, Path], counts: tuple[int, int], first: str) -> InputError:
    """`first` is the first line that the longer file has more."""
    source, target = files
    longer = source if counts[0] > counts[1] else target
    surplus = f"{max(counts) - min(counts)} more, from line {min(counts) + 1}, {first[:50]!r}"
    return InputError(
        f"{source} has {counts[0]} lines, but {target} has {counts[1]}: {longer.name} has {surplus}, on; "
        "line n of the one must belong to line n of the other"
    )
