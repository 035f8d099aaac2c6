"""Rows for masked models, in a file of the cache folder of the session."""

from tokenizers import Tokenizer, models

from minitransformer.data.token_rows import TokenRows, token_rows
from minitransformer.tokenization import MaskedSpecials

PAD, CLS, SEP, MASK = 0, 2, 3, 4
SPECIALS = MaskedSpecials(PAD, CLS, SEP, MASK, "[MASK]")
WIDE = Tokenizer(models.WordLevel({"a": 1 << 16}, unk_token="a"))


def stored(rows) -> TokenRows:
    """The rows of `packing` as `MaskedBatches` takes them."""
    rows = list(rows)
    return token_rows(lambda: rows, columns=["second_start", "label"], tokenizers=[WIDE], key=[repr(rows)])


def content(rows: TokenRows):
    """The rows as `packing` made them."""
    numbers = zip(*(numbers.tolist() for numbers in rows.columns.values()), strict=True)
    return [(rows[row].tolist(), *of_row) for row, of_row in enumerate(numbers)]
