"""Tokens of large corpora in files: made once, and mapped into memory, where the system keeps what is in use."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.packages import cache_folder
from minitransformer.data.running_text import Texts
from minitransformer.data.streams import stream_parts
from minitransformer.files import atomic

SMALL = 8_000_000
"""Texts of fewer bytes are made into tokens anew each time, in memory."""
_FORMAT = "1"
_COUNT = struct.Struct("<q")  # at the end of a file: how many tokens there are, by which a torn one is known


def token_file(texts: Texts, tokenizer: Tokenizer, folder: Path | None = None) -> Int[Tensor, "tokens"]:
    """`token_stream(texts, tokenizer)`, of large texts as a file in `folder` (by default in the cache folder) that is
    mapped into memory. Its name is a hash of the texts, the tokenizer and the format: what is there is used again.

    Nothing grows with the texts but the file: 2 bytes a token where the vocabulary has less than 32,768, else 4.
    """
    small = vocabulary_size(tokenizer) < 1 << 15
    dtype = torch.int16 if small else torch.int32
    if texts.content.num_bytes < SMALL:
        parts = [torch.from_numpy(part).to(dtype) for part in stream_parts(texts, tokenizer)]
        return torch.cat(parts) if parts else torch.empty(0, dtype=dtype)
    name = "\0".join((_FORMAT, str(dtype), texts.content.sha256, tokenizer.to_str()))
    path = (folder or cache_folder() / "tokens") / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.tokens"
    if (count := _count(path, dtype.itemsize)) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        with atomic(path) as temporary, temporary.open("wb") as file:
            for part in stream_parts(texts, tokenizer):
                file.write(part.astype("<i2" if small else "<i4").tobytes())
                count += len(part)
            file.write(_COUNT.pack(count))
    return torch.from_file(str(path), shared=False, size=count, dtype=dtype)


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def _count(path: Path, itemsize: int) -> int | None:
    """The tokens in a file, or None if it is not there or not whole."""
    if not path.is_file() or path.stat().st_size < _COUNT.size:
        return None
    with path.open("rb") as file:
        file.seek(-_COUNT.size, 2)
        (count,) = _COUNT.unpack(file.read())
    return count if path.stat().st_size == count * itemsize + _COUNT.size else None


def in_parts(ids: Int[Tensor, "tokens"], size: int = 1 << 22) -> Iterator[Int[Tensor, "part"]]:
    """For sums over all tokens, so that no second copy of them is made."""
    return iter(ids.split(size))
