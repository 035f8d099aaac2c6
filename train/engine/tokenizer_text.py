"""The part of the training text that a tokenizer is trained on."""

import warnings
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer

TOKENIZER_BYTES = 50_000_000
"""The most text that a tokenizer is trained on: more would hardly change its vocabulary."""


def first(texts: Iterable[str], num_bytes: int = TOKENIZER_BYTES, *, of: str = "the text") -> Iterator[str]:
    """The first texts, up to the one that brings them to `num_bytes`. A warning says if some are left."""
    left = num_bytes
    for text in texts:
        if left <= 0:
            warnings.warn(f"the tokenizer is trained on the first {num_bytes / 1e6:,.0f} MB of {of}", stacklevel=2)
            return
        left -= len(text.encode())
        yield text


def warn_of_small_vocabulary(tokenizer: Tokenizer, asked: int) -> None:
    """Warn if the training text gave fewer pieces than were asked for."""
    if (size := tokenizer.get_vocab_size()) < asked:
        warnings.warn(f"the text gives only {size:,} pieces, fewer than the {asked:,} asked for", stacklevel=2)
