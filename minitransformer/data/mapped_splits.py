"""Splitting large corpora that come without splits: the parts of `grouped_split`, with few bytes a row in memory."""

import random
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minitransformer.data.arrow_file import arrow_file, mapped_rows, noted, stored_batches, write_note, write_rows
from minitransformer.data.columns import text_batches
from minitransformer.data.splits import PARTS, Rows, grouped_split, tenth_of

if TYPE_CHECKING:
    import datasets
    import pyarrow

_FORMAT = "split 1"
"""Another number wherever which rows are in which part changes."""
_LEFT_OUT = len(PARTS)


def split_rows(rows: Rows, *, by: str, seed: int = 0) -> dict[str, Rows]:
    """See `grouped_split`; of a data set that `table_rows` has made the parts are such data sets too, each a file of
    the cache, whose name is a hash of the rows, `by`, the seed and the format."""
    if isinstance(rows, dict):
        return dict(grouped_split(rows, by=by, seed=seed))
    paths = [arrow_file(_FORMAT, rows._fingerprint, by, str(seed), name) for name in PARTS]
    if None in map(noted, paths):
        file = Path(rows.cache_files[0]["filename"])
        parts = _parts(rows, _order(file, by), by, seed)
        for part, path in enumerate(paths):
            write_rows(path, rows.features.arrow_schema, _chosen(file, parts == part))
            write_note(path, {})
    return dict(zip(PARTS, map(mapped_rows, paths), strict=True))


def _order(file: Path, by: str) -> NDArray[np.uint64]:
    """The numbers of a file's rows, sorted by one column; equal rows stay in order."""
    import pyarrow
    from pyarrow.compute import sort_indices

    # UTF-8 is sorted by its bytes as text is by its code points.
    with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as batches:
        return sort_indices(batches.read_all().column(by)).to_numpy()


def _parts(rows: "datasets.Dataset", order: NDArray[np.uint64], by: str, seed: int) -> NDArray[np.uint8]:
    """The number in `PARTS` of each row's part; `_LEFT_OUT` for rows that were there before."""
    # Hashes tell values apart that stand side by side in this order, and rows of one value, which are too few for two
    # of them to have one by chance.
    value_hashes, row_hashes = _hashes(rows, by)
    ordered = value_hashes[order]
    begins = np.append(True, ordered[1:] != ordered[:-1])
    del ordered, value_hashes
    values = np.cumsum(begins)
    values -= 1

    places = array("q", range(values[-1] + 1))
    tenth = tenth_of(len(places), by)
    random.Random(seed).shuffle(places)
    part_of = np.full(len(places), PARTS.index("train"), dtype=np.uint8)
    part_of[places[:tenth]] = PARTS.index("test")
    part_of[places[tenth : 2 * tenth]] = PARTS.index("validation")
    parts = np.empty(len(order), dtype=np.uint8)
    parts[order] = part_of[values]

    shared = ~(begins & np.append(begins[1:], True))
    order, values = order[shared], values[shared]
    row_hashes = row_hashes[order]
    # Of the rows of one value, those that are the same stand side by side then, the first one before the others.
    again = np.lexsort((row_hashes, values))
    order, values, row_hashes = order[again], values[again], row_hashes[again]
    parts[order[1:][(values[1:] == values[:-1]) & (row_hashes[1:] == row_hashes[:-1])]] = _LEFT_OUT
    return parts


def _hashes(rows: "datasets.Dataset", by: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each row's value of `by`, and of all that is in it."""
    values, whole = (np.empty(len(rows), dtype=np.int64) for _ in range(2))
    start = 0
    for batch in text_batches(rows, *rows.column_names):
        stop = start + len(batch[by])
        values[start:stop] = _hashed(batch[by])
        whole[start:stop] = _hashed(map(repr, zip(*batch.values(), strict=True)))
        start = stop
    return values, whole


def _hashed(texts: Iterable[str]) -> NDArray[np.int64]:
    # Not Python's own hashes, which are others in each process.
    return np.frombuffer(b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts), dtype=np.int64)


def _chosen(file: Path, chosen: NDArray[np.bool_]) -> Iterator["pyarrow.RecordBatch"]:
    """The rows of a file that are."""
    import pyarrow

    start = 0
    for batch in stored_batches(file):
        stop = start + batch.num_rows
        yield batch.filter(pyarrow.array(chosen[start:stop]))
        start = stop
