"""Pairs of texts as tokens: in memory, and of large corpora in a file that is mapped."""

from array import array
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer

from minitransformer.data.columns import text_batches
from minitransformer.data.row_file import MappedRows, Part, is_large, row_file, rows_in_memory
from minitransformer.data.token_cache import vocabulary_size
from minitransformer.tokenization import BOS, EOS, special_id

if TYPE_CHECKING:
    import datasets

_FORMAT = "pairs 1"


def pair_ids(split: "datasets.Dataset", source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> MappedRows:
    """A row for each pair: its source and EOS, then BOS, its target and EOS. The columns are the lengths of both parts.

    Of a large data set this is a file, whose name is a hash of the data set's fingerprint, the tokenizers and the
    format: what is there is used again.
    """
    vocabulary = max(map(vocabulary_size, (source_tokenizer, target_tokenizer)))
    dtype = torch.int16 if vocabulary < 1 << 15 else torch.int32
    parts = partial(_parts, split, source_tokenizer, target_tokenizer)
    if is_large(split):
        name = "\0".join((_FORMAT, split._fingerprint, source_tokenizer.to_str(), target_tokenizer.to_str()))
        return row_file(name, dtype, 2, parts)
    return rows_in_memory(dtype, 2, parts())


def _parts(split: "datasets.Dataset", source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> Iterator[Part]:
    """Of a few rows each, because an encoding takes a hundred times the room of its ids."""
    source_eos, target_eos = (special_id(tokenizer, EOS) for tokenizer in (source_tokenizer, target_tokenizer))
    bos = special_id(target_tokenizer, BOS)
    for rows in text_batches(split, "source", "target"):
        sources = source_tokenizer.encode_batch_fast(rows["source"], add_special_tokens=False)
        targets = target_tokenizer.encode_batch_fast(rows["target"], add_special_tokens=False)
        ids, lengths = array("i"), array("i")
        for source, target in zip(sources, targets, strict=True):
            first, second = [*source.ids, source_eos], [bos, *target.ids, target_eos]
            ids.extend(first)
            ids.extend(second)
            lengths.extend((len(first), len(second)))
        yield np.array(ids, dtype=np.int32), np.array(lengths, dtype=np.int32).reshape(-1, 2)
