"""Rows of token ids in a memory-mapped file, for every job and for data of any size."""

import hashlib
import json
import mmap
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.cache_folder import cache_folder, made_once

_IDS = "ids"


@dataclass(frozen=True)
class TokenRows:
    """Row i is `ids[starts[i] : starts[i] + lengths[i]]`; `columns` holds further numbers of each row, by name.

    The ids are memory-mapped: the operating system keeps those in memory that are in use. Of every row, 8 bytes are in
    memory (12 if there are 2³¹ ids), and 1 for each further number (4 if one of its column needs more).
    """

    ids: Int[Tensor, " tokens"]
    starts: Int[Tensor, " rows"]
    lengths: Int[Tensor, " rows"]
    columns: Mapping[str, Int[Tensor, " rows"]]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Int[Tensor, " length"]:
        start = int(self.starts[row])
        return self.ids[start : start + int(self.lengths[row])]

    def select(self, rows: Int[Tensor, " selected"] | Bool[Tensor, " rows"]) -> "TokenRows":
        """These rows, or those where a mask is True, over the same ids."""
        columns = {name: numbers[rows] for name, numbers in self.columns.items()}
        return TokenRows(self.ids, self.starts[rows], self.lengths[rows], columns)


def padded(
    ids: Int[Tensor, "tokens"], starts: Int[Tensor, "batch"], lengths: Int[Tensor, "batch"], pad_id: int
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """`lengths` ids from each of `starts` on, padded on the right, and which of them are real."""
    steps = torch.arange(int(lengths.max()))
    valid = steps < lengths[:, None]
    # Places after the end of a row hold its neighbour's ids; after the last row there are none.
    places = (starts[:, None] + steps).clamp(max=len(ids) - 1)
    return ids[places].long().masked_fill(~valid, pad_id), valid


def token_rows(
    rows: Callable[[], Iterable[Sequence[Any]]],
    *,
    columns: Sequence[str] = (),
    tokenizers: Sequence[Tokenizer],
    key: Sequence[str],
) -> TokenRows:
    """The rows that `rows()` yields, each as its ids followed by one number for each of `columns`.

    They lie in a folder of the cache. Its name is a hash of the tokenizers and of `key`, which must say all else that
    the rows follow from: the fingerprint of a data set, the kind of row, seeds. If it is there and whole, `rows` is not
    called. While it is written, the length of each row and its further numbers take 4 bytes of memory each.
    """
    vocabulary = max(1 + max(tokenizer.get_vocab().values(), default=0) for tokenizer in tokenizers)
    dtype = np.dtype("<i2" if vocabulary <= 1 << 15 else "<i4")
    names = ("length", *columns)
    follows_from = json.dumps([dtype.str, names, [tokenizer.to_str() for tokenizer in tokenizers], *key])

    def make(folder: Path) -> None:
        numbers = {name: array("i") for name in names}
        with (folder / _IDS).open("wb") as file:
            for ids, *of_row in rows():
                file.write(np.asarray(ids, dtype=dtype).tobytes())
                for column, number in zip(numbers.values(), (len(ids), *of_row), strict=True):
                    column.append(number)
        for name, column in numbers.items():
            np.asarray(column, dtype="<i4").tofile(folder / name)

    name = hashlib.sha256(follows_from.encode()).hexdigest()[:32]
    folder = made_once(cache_folder() / "tokens" / name, make)
    ids, lengths = _mapped(folder / _IDS, dtype), torch.from_numpy(np.fromfile(folder / "length", "<i4"))
    starts = lengths.cumsum(0, dtype=torch.int32 if len(ids) < 1 << 31 else torch.int64).sub_(lengths)
    return TokenRows(ids, starts, lengths, {name: _numbers(folder / name) for name in columns})


def _numbers(path: Path) -> Int[Tensor, " rows"]:
    """In a byte each if all fit. Lengths keep 4: torch compares a tensor of bytes wrongly with a limit above 127."""
    numbers = torch.from_numpy(np.fromfile(path, "<i4"))
    narrow = numbers.to(torch.int8)
    return narrow if (narrow == numbers).all() else numbers


def _mapped(path: Path, dtype: np.dtype) -> Int[Tensor, " tokens"]:
    if not path.stat().st_size:  # nothing cannot be mapped
        return torch.from_numpy(np.empty(0, dtype))
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if hasattr(pages, "madvise"):  # rows are read in random order: reading ahead would fetch sixteen times as much
        pages.madvise(mmap.MADV_RANDOM)
    return torch.from_numpy(np.frombuffer(pages, dtype))
