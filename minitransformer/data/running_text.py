"""Running text: a .txt file as rows that are consecutive pieces of it, and texts read a block at a time."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minitransformer.data.columns import text_batches
from minitransformer.data.stored_rows import Generated, stored
from minitransformer.data.text_file import read_blocks, require_text
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

PIECE = 1 << 16
"""The most characters of a row."""
LONGEST = 128
WORD_ENDS = re.compile(r"(?<=\S)(?=\s)")


def text_pieces(path: Path, part: Literal["whole", "first nine tenths", "last tenth"] = "whole") -> "datasets.Dataset":
    """The text of a file, or the first int(0.9 · n) of its n characters, or the others, with the columns `text` and
    `continues`.

    Each row is a piece that ends with its last line end in `PIECE` characters (where there is none, after these). The
    pieces joined are the text. `continues` is False for the first and True for all others: a row continues the text of
    the row before.
    """
    require_text(path)

    def rows() -> Generated:
        start, stop = 0, sum(map(len, read_blocks(path)))
        if part != "whole":
            if stop < 10:
                raise InputError(
                    f"{path}: {stop} characters are too few to split (10 at least): "
                    "give a folder with train and validation files"
                )
            cut = int(0.9 * stop)
            start, stop = (0, cut) if part == "first nine tenths" else (cut, stop)
        count = 0
        for row in blocks_as_rows(_between(read_blocks(path), start, stop)):
            yield row
            count += 1
        return {"rows": count}

    return stored((path,), ("text", part), {"text": "string", "continues": "bool"}, rows)[0]


def _between(blocks: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """The characters from `start` to `stop` of the blocks joined."""
    place = 0
    for block in blocks:
        yield block[max(0, start - place) : max(0, stop - place)]
        place += len(block)
        if place >= stop:
            return


def blocks_as_rows(blocks: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of one text, see `text_pieces`."""
    waiting, continues = "", False
    for block in chain(blocks, [None]):
        waiting += block or ""
        while len(waiting) > PIECE or (waiting and block is None):
            end = len(waiting) if len(waiting) <= PIECE else waiting.rfind("\n", 0, PIECE) + 1 or PIECE
            yield {"text": waiting[:end], "continues": continues}
            waiting, continues = waiting[end:], True


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
            cut = WORD_ENDS.search(waiting, start + length, start + most)
            if cut is None and len(waiting) - start < most:
                break
            end = start + most if cut is None else cut.start()
            yield waiting[start:end]
            start = end
        waiting = waiting[start:]
    yield waiting
