"""The texts of a data set, a few rows at a time, so that none of its columns need ever be in memory whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minitransformer.data.arrow_file import stored_batches

if TYPE_CHECKING:
    import datasets

ROWS = 1000


def texts(split: "datasets.Dataset", column: str) -> Iterator[str]:
    """Those of one column, in order: a hundred times as fast as row by row."""
    for rows in text_batches(split, column):
        yield from rows[column]


def text_batches(split: "datasets.Dataset", *columns: str) -> Iterator[dict[str, list[Any]]]:
    """These columns, up to `ROWS` rows at a time."""
    path = _file_of(split)
    if path is None:
        yield from split.select_columns(list(columns)).iter(ROWS)
        return
    for batch in stored_batches(path):
        for start in range(0, batch.num_rows, ROWS):
            yield batch.slice(start, ROWS).select(list(columns)).to_pydict()


def _file_of(split: "datasets.Dataset") -> Path | None:
    """The file that holds the rows of a data set and no others, if it is one of ours: its fingerprint is then the
    file's name (see `mapped_rows`), and that of whatever is chosen or changed of it another."""
    paths = [Path(file["filename"]) for file in split.cache_files]
    return paths[0] if [path.stem for path in paths] == [split._fingerprint] else None
