"""Running text as rows: consecutive pieces of a .txt file."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minitransformer.data.stored_rows import Generated, stored
from minitransformer.data.text_file import read_blocks, require_text
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

PIECE = 1 << 16
"""The most characters of a piece."""


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
        count, place, waiting = 0, 0, ""
        for block in read_blocks(path):
            waiting += block[max(0, start - place) : max(0, stop - place)]
            place += len(block)
            while len(waiting) > PIECE or (waiting and place >= stop):
                end = len(waiting) if len(waiting) <= PIECE else waiting.rfind("\n", 0, PIECE) + 1 or PIECE
                yield {"text": waiting[:end], "continues": count > 0}
                count, waiting = count + 1, waiting[end:]
            if place >= stop:
                break
        return {"count": count}

    return stored((path,), ("text", part), {"text": "string", "continues": "bool"}, rows)[0]
