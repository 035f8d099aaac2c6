"""Numbers in files of the cache: written once, and mapped into memory, where the system keeps what is in use."""

import hashlib
import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

COUNTS = struct.Struct("<qq")
"""At the end of a file: two counts, by which a torn one is known."""


def file_name(name: str, suffix: str) -> str:
    """A short one for a text that says all there is to say about what the file holds."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.{suffix}"


def counts_of(path: Path, size: Callable[[int, int], int]) -> tuple[int, int] | None:
    """The counts at the end of a file; None if it is not there or not whole, which is to say that it has not the
    `size` before them, in bytes, that follows from both."""
    if not path.is_file() or path.stat().st_size < COUNTS.size:
        return None
    with path.open("rb") as file:
        file.seek(-COUNTS.size, 2)
        first, second = COUNTS.unpack(file.read())
    return (first, second) if path.stat().st_size == size(first, second) + COUNTS.size else None


def mapped(path: Path, dtype: torch.dtype, count: int) -> Int[Tensor, " count"]:
    """The first `count` numbers of a file."""
    if not count:
        return torch.empty(0, dtype=dtype)
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), count * dtype.itemsize, access=mmap.ACCESS_COPY)
    if hasattr(pages, "madvise"):  # what is read is shuffled: to read on behind each would fetch sixteen times as much
        pages.madvise(mmap.MADV_RANDOM)
    return torch.frombuffer(pages, dtype=dtype)
