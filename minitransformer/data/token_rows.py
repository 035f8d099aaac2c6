"""Rows of token ids in one memory-mapped file, for every job and for data of any size."""

import hashlib
import json
import mmap
import struct
import zlib
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

from minitransformer.data.cache_folder import cache_folder, make_room, make_writable
from minitransformer.files import atomic, remove_abandoned, unfinished

_MAGIC = b"tokrows2"
"""The format of the file. Change it when the layout changes: older files are then made again."""
_HEADER = struct.Struct("<8s32sqqI4x")
"""Format, hash of all that the rows follow from, number of ids, number of rows, and a checksum of these numbers and of
all bytes after the header.

Safetensors cannot be the container: its header gives the shapes, so that they must be known before the first id.
"""
_COUNTS = struct.Struct("<qq")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class TokenRows:
    """Row i is `ids[starts[i] : starts[i] + lengths[i]]`; `columns` holds further numbers of each row, by name.

    The ids are memory-mapped: the operating system keeps those in memory that are in use. Of every row, 12 bytes are in
    memory, and 4 for each further number.
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
        self, rows: Int[Tensor, " batch"], pad_id: int
    ) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
        """The ids of these rows, padded on the right, and which of them are real."""
        return padded(self.ids, self.starts[rows], self.lengths[rows], pad_id)


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

    They lie in a file of the cache folder. Its name is a hash of the tokenizers and of `key`, which must say all else
    that the rows follow from: the fingerprint of a data set, the kind of row, seeds. If the file exists, `rows` is not
    called. A file that is torn, damaged or made from something else is made again. While it is written, memory holds
    what is said of `TokenRows`; if `rows` raises, no file is left.
    """
    vocabulary = max(1 + max(tokenizer.get_vocab().values(), default=0) for tokenizer in tokenizers)
    dtype = np.dtype("<i2" if vocabulary <= 1 << 15 else "<i4")
    names = ("length", *columns)
    follows_from = json.dumps([dtype.str, names, [tokenizer.to_str() for tokenizer in tokenizers], *key])
    digest = hashlib.sha256(follows_from.encode()).digest()
    path = cache_folder() / "tokens" / f"{digest.hex()[:32]}.tokens"
    tokens, count = _verified(path, digest, dtype, len(names)) or _write(path, digest, dtype, len(names), rows())
    place, numbers = _HEADER.size + tokens * dtype.itemsize, {}
    for name in names:
        numbers[name] = torch.from_numpy(np.fromfile(path, "<i4", count, offset=place))
        place += 4 * count
    lengths = numbers.pop("length")
    return TokenRows(_mapped(path, dtype, tokens), lengths.cumsum(0).sub_(lengths), lengths, numbers)


def _verified(path: Path, digest: bytes, dtype: np.dtype, width: int) -> tuple[int, int] | None:
    """The numbers of ids and rows in a file; None if it does not exist, or is not the whole file of this digest."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        magic, found, tokens, count, checksum = _HEADER.unpack(header)
        size = _HEADER.size + tokens * dtype.itemsize + 4 * count * width
        if (magic, found, size) != (_MAGIC, digest, path.stat().st_size):
            return None
        actual = 0
        while block := file.read(_BLOCK):
            actual = zlib.crc32(block, actual)
    return (tokens, count) if zlib.crc32(_COUNTS.pack(tokens, count), actual) == checksum else None


def _write(path: Path, digest: bytes, dtype: np.dtype, width: int, rows: Iterable[Sequence[Any]]) -> tuple[int, int]:
    """The ids as they come, and after them the columns, which wait in memory."""
    tokens, checksum, columns = 0, 0, [array("i") for _ in range(width)]
    make_writable(path.parent)
    remove_abandoned(unfinished(path.parent, r"[0-9a-f]{32}\.tokens"))
    with atomic(make_room(path)) as temporary, temporary.open("wb") as file:
        file.write(bytes(_HEADER.size))
        for ids, *numbers in rows:
            part = np.asarray(ids, dtype=dtype).tobytes()
            file.write(part)
            checksum = zlib.crc32(part, checksum)
            tokens += len(ids)
            for column, number in zip(columns, (len(ids), *numbers), strict=True):
                column.append(number)
        for column in columns:
            part = np.asarray(column, dtype="<i4").tobytes()
            file.write(part)
            checksum = zlib.crc32(part, checksum)
        checksum = zlib.crc32(_COUNTS.pack(tokens, len(columns[0])), checksum)
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, digest, tokens, len(columns[0]), checksum))
    return tokens, len(columns[0])


def _mapped(path: Path, dtype: np.dtype, count: int) -> Int[Tensor, " count"]:
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), _HEADER.size + count * dtype.itemsize, access=mmap.ACCESS_COPY)
    if hasattr(pages, "madvise"):  # rows are read in random order: reading ahead would fetch sixteen times as much
        pages.madvise(mmap.MADV_RANDOM)
    return torch.from_numpy(np.frombuffer(pages, dtype, count, offset=_HEADER.size))
