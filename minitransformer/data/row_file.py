"""Rows of tokens of large corpora in files: made once, and mapped into memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from minitransformer.data import remembered
from minitransformer.data.cache_file import cache_file
from minitransformer.data.mapped_file import COUNTS, counts_of, file_name, mapped
from minitransformer.data.packages import cache_folder

if TYPE_CHECKING:
    import datasets

_FORMAT = "1"

Part = tuple[NDArray[np.int32], NDArray[np.int32]]
"""The ids of a few rows, one after another, and their columns (rows, columns)."""


class MappedRows(NamedTuple):
    """Rows of tokens one after another, and the numbers that are kept for each row: its length is the first of them,
    or the lengths of its parts are the first few."""

    ids: Int[Tensor, " tokens"]
    columns: Int[Tensor, "rows columns"]


def is_large(split: "datasets.Dataset") -> bool:
    """Whether its tokens are to be in a file: it has `remembered.LARGE` bytes or more."""
    # Of rows that were chosen from a data set, `data` has all the others too.
    return split.data.nbytes * len(split) / max(1, split.data.num_rows) >= remembered.LARGE


def rows_in_memory(dtype: torch.dtype, num_columns: int, parts: Iterator[Part]) -> MappedRows:
    """The ids and the columns of all `parts`."""
    empty = torch.empty(0, dtype=dtype), torch.empty(0, num_columns, dtype=torch.int32)
    tensors = [empty, *((torch.from_numpy(ids).to(dtype), torch.from_numpy(columns)) for ids, columns in parts)]
    ids, columns = map(torch.cat, zip(*tensors, strict=True))
    return MappedRows(ids, columns)


def row_file(name: str, dtype: torch.dtype, num_columns: int, parts: Callable[[], Iterator[Part]]) -> MappedRows:
    """The ids and the columns (rows, num_columns) of all `parts`, in a file of the cache folder. `name` says all there
    is to say about them: where a file of that name is, `parts` is not called.
    What `parts` raises, at its end too, leaves no file.

    The ids, int16 or int32 as `dtype` says, are mapped into memory; of the columns each number has 4 bytes of it.
    """
    path = cache_folder() / "tokens" / file_name("\0".join((_FORMAT, str(dtype), str(num_columns), name)), "rows")

    def size(tokens: int, rows: int) -> int:
        return tokens * dtype.itemsize + rows * num_columns * 4

    tokens, rows = counts_of(path, size) or _write(path, dtype, parts())
    columns = np.fromfile(path, dtype=np.int32, count=rows * num_columns, offset=tokens * dtype.itemsize)
    return MappedRows(mapped(path, dtype, tokens), torch.from_numpy(columns).view(rows, num_columns))


def _write(path: Path, dtype: torch.dtype, parts: Iterator[Part]) -> tuple[int, int]:
    """The ids as they come, then the columns, which wait for them in memory."""
    tokens, rows, waiting = 0, 0, bytearray()
    with cache_file(path) as file:
        for ids, columns in parts:
            file.write(ids.astype(f"i{dtype.itemsize}").tobytes())
            waiting += columns.astype(np.int32).tobytes()
            tokens, rows = tokens + len(ids), rows + len(columns)
        file.write(waiting)
        file.write(COUNTS.pack(tokens, rows))
    return tokens, rows
