"""The texts of a data set, a few rows at a time, so that none of its columns need ever be in memory whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import datasets

ROWS = 1000


def texts(split: "datasets.Dataset", column: str) -> Iterator[Any]:
    """The values of one column in order, a hundred times as fast as row by row."""
    for rows in text_batches(split, column):
        yield from rows[column]


def text_batches(split: "datasets.Dataset", *columns: str) -> Iterator[dict[str, list[Any]]]:
    """These columns, up to `ROWS` rows at a time.

    The files of `load` are read, not the memory that they are mapped into: pages of a mapping that were read count as
    memory of the process, so that reading a whole corpus would seem to bring all of it into memory.
    """
    import pyarrow

    files = _files_of(split)
    if not files:
        yield from split.select_columns(list(columns)).iter(ROWS)
        return
    indices = None if split._indices is None else split._indices.column(0).to_numpy()
    start = 0
    for file in files:
        with pyarrow.OSFile(str(file)) as opened, pyarrow.ipc.open_stream(opened) as stored:
            for batch in (each.slice(first, ROWS) for each in stored for first in range(0, each.num_rows, ROWS)):
                found = {name: batch.column(name) for name in columns}
                for name, values in found.items():
                    if values.type != split.features[name].dtype:  # a label, whose number is in memory
                        found[name] = split.data.column(name).slice(start, batch.num_rows)
                if indices is not None:
                    first, last = np.searchsorted(indices, (start, start + batch.num_rows))
                    chosen = pyarrow.array(indices[first:last] - start)
                    found = {name: values.take(chosen) for name, values in found.items()}
                if len(found[columns[0]]):
                    yield {name: values.to_pylist() for name, values in found.items()}
                start += batch.num_rows


def _files_of(split: "datasets.Dataset") -> list[Path]:
    """The files that hold the rows, if `load` wrote them.

    The fingerprint of such a data set is the name of its folder, with "+label" after it where `with_class_labels` has
    replaced the labels, and "-" and a hash where `grouped_split` has chosen some of the rows, in their order. Whatever
    else is made of it has another fingerprint.
    """
    paths = [Path(file["filename"]) for file in split.cache_files]
    name, _, chosen = split._fingerprint.partition("-")
    ours = all(path.parent.name == name.partition("+")[0] for path in paths)
    return paths if ours and bool(chosen) == (split._indices is not None) else []
