"""How much of the training text a tokenizer learns from."""

import warnings
from collections.abc import Sequence

import datasets

from minitransformer.data.columns import text_batches

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


def first_texts(texts: Sequence[str]) -> Sequence[str]:
    """Those that these bytes have room for; it says so where they are not all."""
    left = TOKENIZER_BYTES
    for count, text in enumerate(texts):
        if left <= 0:
            _warn_of_the_rest("texts", count, len(texts))
            return texts[:count]
        left -= len(text.encode())
    return texts


def _warn_of_the_rest(what: str, count: int, of: int) -> None:
    warnings.warn(
        f"the tokenizer is trained on the first {TOKENIZER_BYTES / 1e6:,.0f} MB of the {what}, {count:,} of {of:,}",
        stacklevel=3,
    )
