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
        parts, file = _parts(rows, by, seed), Path(rows.cache_files[0]["filename"])
        for part, path in enumerate(paths):
            write_rows(path, rows.features.arrow_schema, _chosen(file, parts == part))
            write_note(path, {})
    return dict(zip(PARTS, map(mapped_rows, paths), strict=True))


def _parts(rows: "datasets.Dataset", by: str, seed: int) -> NDArray[np.uint8]:
    """The number in `PARTS` of each row's part; `_LEFT_OUT` for rows that were there before."""
    from pyarrow.compute import sort_indices

    value_hashes, row_hashes = _hashes(rows, by)
    # UTF-8 is sorted by bytes as text is by code points. Hashes tell values apart that stand side by side in this
    # order, and rows of the same value, which are too few for two of them to be the same by chance.
    order = sort_indices(rows.data.column(by)).to_numpy()
    ordered = value_hashes[order]
    begins = np.append(True, ordered[1:] != ordered[:-1])
    del ordered, value_hashes
    values = np.empty(len(order), dtype=np.int64)
    values[order] = np.cumsum(begins) - 1
    del order

    places = array("q", range(int(begins.sum())))
    tenth = tenth_of(len(places), by)
    random.Random(seed).shuffle(places)
    part_of = np.full(len(places), PARTS.index("train"), dtype=np.uint8)
    part_of[places[:tenth]] = PARTS.index("test")
    part_of[places[tenth : 2 * tenth]] = PARTS.index("validation")

    parts = part_of[values]
    order = np.lexsort((row_hashes, values))  # of rows that are the same, the first one comes first
    values, row_hashes = values[order], row_hashes[order]
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
