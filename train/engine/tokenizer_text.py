"""What a tokenizer is trained on, and what it does not know."""

import warnings
from collections.abc import Iterable, Iterator, Mapping

from tokenizers import Tokenizer

from minitransformer.data.token_rows import TokenRows
from minitransformer.errors import InputError

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


def check_unknown(splits: Mapping[str, TokenRows], data: str) -> None:
    """Warn of tokens that are unknown to the tokenizer. `InputError` if they are most of a split: there is nothing to
    learn from it."""
    for name, rows in splits.items():
        tokens, count = int(rows.lengths.sum()), int(rows.columns["unknown"].sum())
        if 2 * count > tokens:
            raise InputError(
                f"--data {data}: {count:,} of {tokens:,} tokens of {name} are unknown to the tokenizer: "
                "take one that was trained on such text, or a byte-level one"
            )
        if count:
            warnings.warn(
                f"{count:,} of {tokens:,} tokens of {name} are unknown to the tokenizer and count as one kind: "
                "figures on this text look better than they are",
                stacklevel=2,
            )
