"""How much of the training text a tokenizer learns from."""

import warnings
from collections.abc import Iterator
from itertools import islice

import datasets
from tokenizers import Tokenizer

from minitransformer.data.columns import text_batches, texts
from minitransformer.data.documents import documents, pieces

TOKENIZER_BYTES = 50_000_000
"""The pieces of words are found in so much of it: more text would hardly change them."""


def beginning(split: datasets.Dataset, side: str) -> tuple[int, set[str]]:
    """How many texts of a column these bytes have room for, and the characters of those; it says so where they are not
    all."""
    count, left, characters = 0, TOKENIZER_BYTES, set[str]()
    for rows in text_batches(split, side):
        if left <= 0:
            _warn_of_the_rest(f"{side}s", count, len(split))
            break
        text = "".join(rows[side])
        characters |= set(text)
        left -= len(text.encode())
        count += len(rows[side])
    return count, characters


def first_texts(split: datasets.Dataset, column: str) -> Iterator[str]:
    """The texts that these bytes have room for; a warning says if they are not all."""
    return islice(texts(split, column), beginning(split, column)[0])


def _warn_of_the_rest(what: str, count: int, of: int) -> None:
    warnings.warn(
        f"the tokenizer is trained on the first {TOKENIZER_BYTES / 1e6:,.0f} MB of the {what}, {count:,} of {of:,}",
        stacklevel=3,
    )


def first_pieces(split: datasets.Dataset) -> Iterator[str]:
    """The first `TOKENIZER_BYTES` of running text, in pieces of whole words; a warning says if that is not all."""
    left = TOKENIZER_BYTES
    warn_of_text_left_out(num_bytes(split))
    for text in documents(split):
        for piece in pieces(text, 1 << 16):
            if left <= 0:
                return
            left -= len(piece.encode())
            yield piece


def num_bytes(split: datasets.Dataset) -> int:
    """The bytes of all texts in UTF-8."""
    return sum(len(text.encode()) for text in texts(split, "text"))


def warn_of_text_left_out(num_bytes: int) -> None:
    """Where the training text is more than a tokenizer learns from."""
    if num_bytes > TOKENIZER_BYTES:
        warnings.warn(
            f"the tokenizer is trained on {TOKENIZER_BYTES / 1e6:,.0f} MB of {num_bytes / 1e6:,.0f} MB, the first ones",
            stacklevel=2,
        )


def warn_of_small_vocabulary(tokenizer: Tokenizer, asked: int) -> None:
    """Of a tokenizer trained on so little text that it has fewer pieces than it might have had."""
    if (size := tokenizer.get_vocab_size()) < asked:
        warnings.warn(f"the text gives no more than {size:,} pieces, fewer than the {asked:,} asked for", stacklevel=2)
