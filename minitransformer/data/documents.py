"""The texts of a data set as they are read: a block at a time, so that none need be in memory whole."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby, repeat
from operator import itemgetter
from typing import TYPE_CHECKING

from minitransformer.data.columns import text_batches

if TYPE_CHECKING:
    import datasets

LONGEST = 128
_WORD_ENDS = re.compile(r"(?<=\S)(?=\s)")


def documents(split: "datasets.Dataset") -> Iterator[Iterator[str]]:
    """Each text of a split as the blocks that it is stored in, to be read before the next text is asked for.

    A row is a text, or, where its column `continues` is True, the next block of the text of the row before.
    """
    columns = [name for name in ("text", "continues") if name in split.column_names]

    def numbered() -> Iterator[tuple[int, str]]:
        number = 0
        for rows in text_batches(split, *columns):
            for text, continues in zip(rows["text"], rows.get("continues", repeat(False)), strict=False):
                number += not continues
                yield number, text

    for _, blocks in groupby(numbered(), key=itemgetter(0)):
        yield (block for _, block in blocks)


def pieces(text: Iterable[str], length: int) -> Iterator[str]:
    """A text in pieces of at least `length` characters (the last may be shorter), however its blocks are cut.

    A piece ends before white space that follows a word. No token of ours or of GPT-2's reaches over such a place, so
    that the tokens of the pieces are those of the text. If no word ends within `LONGEST` times the length, as in
    Chinese, the piece ends there.
    """
    waiting = ""
    for block in text:
        waiting += block
        start, most = 0, LONGEST * length
        while len(waiting) - start > length:
            cut = _WORD_ENDS.search(waiting, start + length, start + most)
            if cut is None and len(waiting) - start < most:
                break
            end = start + most if cut is None else cut.start()
            yield waiting[start:end]
            start = end
        waiting = waiting[start:]
    yield waiting
