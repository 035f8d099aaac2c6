"""Tokens of large corpora in files: made once, and mapped into memory, where the system keeps what is in use."""

import hashlib
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.packages import cache_folder
from minitransformer.data.running_text import Texts
from minitransformer.data.streams import stream_parts
from minitransformer.files import atomic
from minitransformer.tokenization import UNK


class Tokens(NamedTuple):
    """The tokens of a split and how many of them are [UNK], which is counted while they are made: to read a mapped
    file from end to end brings all of it into memory."""

    ids: Int[Tensor, "tokens"]
    unknown: int


SMALL = 8_000_000
"""Texts of fewer bytes are made into tokens anew each time, in memory."""
_FORMAT = "2"
_COUNTS = struct.Struct("<qq")  # at the end of a file: tokens, by which a torn one is known, and unknown ones


def token_file(texts: Texts, tokenizer: Tokenizer, folder: Path | None = None) -> Tokens:
    """`token_stream(texts, tokenizer)`, of large texts as a file in `folder` (by default in the cache folder) that is
    mapped into memory. Its name is a hash of the texts, the tokenizer and the format: what is there is used again.

    Nothing grows with the texts but the file: 2 bytes a token where the vocabulary has less than 32,768, else 4.
    """
    dtype = torch.int16 if vocabulary_size(tokenizer) < 1 << 15 else torch.int32
    if texts.content.num_bytes < SMALL:
        parts = [torch.from_numpy(part).to(dtype) for part in stream_parts(texts, tokenizer)]
        ids = torch.cat(parts) if parts else torch.empty(0, dtype=dtype)
        return Tokens(ids, int((ids == _unknown_id(tokenizer)).sum()))
    name = "\0".join((_FORMAT, str(dtype), texts.content.sha256, tokenizer.to_str()))
    path = (folder or cache_folder() / "tokens") / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.tokens"
    if (counts := _counts(path, dtype.itemsize)) is None:
        counts = _write(path, texts, tokenizer, dtype)
    count, unknown = counts
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), count * dtype.itemsize, access=mmap.ACCESS_COPY)
    if hasattr(mapped, "madvise"):  # windows are shuffled: to read on behind each would fetch sixteen times as much
        mapped.madvise(mmap.MADV_RANDOM)
    return Tokens(torch.frombuffer(mapped, dtype=dtype), unknown)


def _write(path: Path, texts: Texts, tokenizer: Tokenizer, dtype: torch.dtype) -> tuple[int, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = unknown = 0
    with atomic(path) as temporary, temporary.open("wb") as file:
        for part in stream_parts(texts, tokenizer):
            file.write(part.astype(f"i{dtype.itemsize}").tobytes())
            count += len(part)
            unknown += int((part == _unknown_id(tokenizer)).sum())
        file.write(_COUNTS.pack(count, unknown))
    return count, unknown


def _unknown_id(tokenizer: Tokenizer) -> int:
    """-1 if nothing is unknown to the tokenizer."""
    index = tokenizer.token_to_id(UNK)
    return -1 if index is None else index


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def _counts(path: Path, itemsize: int) -> tuple[int, int] | None:
    """Those of a file, or None if it is not there or not whole."""
    if not path.is_file() or path.stat().st_size < _COUNTS.size:
        return None
    with path.open("rb") as file:
        file.seek(-_COUNTS.size, 2)
        count, unknown = _COUNTS.unpack(file.read())
    return (count, unknown) if path.stat().st_size == count * itemsize + _COUNTS.size else None
