"""Tokens of large corpora in files: made once, and mapped into memory, where the system keeps what is in use."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.cache_file import cache_file
from minitransformer.data.mapped_file import COUNTS, counts_of, file_name, mapped
from minitransformer.data.packages import cache_folder
from minitransformer.data.running_text import Texts
from minitransformer.data.streams import stream_parts
from minitransformer.tokenization import UNK


class Tokens(NamedTuple):
    """The tokens of a split and how many of them are [UNK], which is counted while they are made: to read a mapped
    file from end to end brings all of it into memory."""

    ids: Int[Tensor, "tokens"]
    unknown: int


SMALL = 8_000_000
"""Texts of fewer bytes are made into tokens anew each time, in memory."""
_FORMAT = "2"


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
    path = (folder or cache_folder() / "tokens") / file_name(name, "tokens")
    counts = counts_of(path, lambda count, unknown: count * dtype.itemsize)
    count, unknown = counts or _write(path, texts, tokenizer, dtype)
    return Tokens(mapped(path, dtype, count), unknown)


def _write(path: Path, texts: Texts, tokenizer: Tokenizer, dtype: torch.dtype) -> tuple[int, int]:
    count = unknown = 0
    with cache_file(path) as file:
        for part in stream_parts(texts, tokenizer):
            file.write(part.astype(f"i{dtype.itemsize}").tobytes())
            count += len(part)
            unknown += int((part == _unknown_id(tokenizer)).sum())
        file.write(COUNTS.pack(count, unknown))
        texts.require_unchanged()
    return count, unknown


def _unknown_id(tokenizer: Tokenizer) -> int:
    """-1 if nothing is unknown to the tokenizer."""
    index = tokenizer.token_to_id(UNK)
    return -1 if index is None else index


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)
