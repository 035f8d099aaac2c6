"""The part of the training text that a tokenizer is trained on."""

import warnings
from collections.abc import Iterator
from itertools import islice

import datasets
from tokenizers import Tokenizer

from minitransformer.data.columns import text_batches, texts
from minitransformer.data.documents import documents, pieces

TOKENIZER_BYTES = 50_000_000
"""The most text that a tokenizer is trained on: more would hardly change its vocabulary."""


def beginning(split: datasets.Dataset, column: str) -> tuple[int, set[str]]:
    """How many texts of a column make up `TOKENIZER_BYTES`, and their characters. A warning says if some are left."""
    count, left, characters = 0, TOKENIZER_BYTES, set[str]()
    for rows in text_batches(split, column):
        if left <= 0:
            warn_of_text_left_out(f"the {column}s, {count:,} of {len(split):,}")
            break
        text = "".join(rows[column])
        characters |= set(text)
        left -= len(text.encode())
        count += len(rows[column])
    return count, characters


def first_texts(split: datasets.Dataset, column: str) -> Iterator[str]:
    """The texts of a column that make up `TOKENIZER_BYTES`. A warning says if some are left."""
    return islice(texts(split, column), beginning(split, column)[0])


def first_pieces(split: datasets.Dataset) -> Iterator[str]:
    """The first `TOKENIZER_BYTES` of running text, in pieces of whole words. A warning says if some text is left."""
    left = TOKENIZER_BYTES
    for text in documents(split):
        for piece in pieces(text, 1 << 16):
            if left <= 0:
                warn_of_text_left_out("the text")
                return
            left -= len(piece.encode())
            yield piece


def warn_of_text_left_out(of: str) -> None:
    megabytes = TOKENIZER_BYTES / 1e6
    warnings.warn(f"the tokenizer is trained on the first {megabytes:,.0f} MB of {of}", stacklevel=3)


def warn_of_small_vocabulary(tokenizer: Tokenizer, asked: int) -> None:
    """Warn if the training text gave fewer pieces than were asked for."""
    if (size := tokenizer.get_vocab_size()) < asked:
        warnings.warn(f"the text gives only {size:,} pieces, fewer than the {asked:,} asked for", stacklevel=2)
