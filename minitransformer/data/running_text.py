"""The texts of a corpus in blocks, so that none of them need ever be in memory whole."""

import codecs
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from minitransformer.data.remembered import remembered, watched
from minitransformer.errors import InputError

BLOCK_BYTES = 1 << 20
LONGEST = 128
_WORD_ENDS = re.compile(r"(?<=\S)(?=\s)")


class Content(NamedTuple):
    """What is known of a split once it has been read: its bytes in UTF-8, and a hash that no other texts have."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Texts:
    """The texts of one split, each as the blocks it consists of. `read` begins anew at every call. `recall` is given
    how to find out the content, and knows better where it can. `require_unchanged` raises `InputError` if the texts are
    not what they were when this was made, before anything could ask for the content."""

    read: Callable[[], Iterator[Iterable[str]]]
    recall: Callable[[Callable[[], Any]], Any] = lambda find: find()
    require_unchanged: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Iterable[str]]:
        return self.read()

    def blocks(self) -> Iterator[str]:
        """Those of all texts."""
        return chain.from_iterable(self)

    @cached_property
    def content(self) -> Content:
        return Content(*self.recall(self._content))

    def _content(self) -> Content:
        num_bytes, digest = 0, hashlib.sha256()
        for text in self:
            length = 0
            for block in text:
                encoded = block.encode()
                digest.update(encoded)
                length += len(encoded)
            # Two texts are another split than one of both, end to end.
            digest.update(f"\0{length}\0".encode())
            num_bytes += length
        return Content(num_bytes, digest.hexdigest())


def texts_of(rows: Iterable[str]) -> Texts:
    """Texts that are in memory, or in a data set that reads a row at a time."""
    return Texts(lambda: ((row,) for row in rows))


def last_tenth_of_file(path: Path) -> dict[str, Texts]:
    """Train and validation parts of a .txt file: the first int(0.9 · n) of its n characters, and the rest."""
    count = count_characters(path)
    cut = int(0.9 * count)
    if count < 10:
        raise InputError(
            f"{count} characters are too few to split (10 at least): give a folder with train and validation files"
        )
    return {"train": part_of_file(path, 0, cut), "validation": part_of_file(path, cut, count)}


def part_of_file(path: Path, start: int, stop: int) -> Texts:
    """One text: the characters of a file from `start` to `stop`."""

    def blocks() -> Iterator[str]:
        place = 0
        for block in read_blocks(path):
            if place + len(block) > start:
                yield block[max(0, start - place) : stop - place]
            place += len(block)
            if place >= stop:
                break

    recall = partial(remembered, path, f"content from {start} to {stop}")
    return Texts(lambda: iter([blocks()]), recall, watched(path))


def count_characters(path: Path) -> int:
    """Of a whole file; `InputError` for one that holds white space alone."""
    return remembered(path, "characters", partial(_count_characters, path))


def _count_characters(path: Path) -> int:
    require_text(path)
    return sum(map(len, read_blocks(path)))


def require_text(path: Path) -> None:
    """`InputError` for a file that holds white space alone; others are read no further than need be."""
    if not any(block.strip() for block in read_blocks(path)):
        raise InputError(f"{path} is empty")


def read_blocks(path: Path) -> Iterator[str]:
    """The text of a file in UTF-8, with or without a byte order mark, any line ends made "\\n"."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    lines = 0
    with path.open("rb") as file:
        while True:
            raw = file.read(BLOCK_BYTES)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line = lines + error.object.count(b"\n", 0, error.start) + 1
                found = f"byte 0x{error.object[error.start]:02x}"
                raise InputError(
                    f"{path}, line {line}: {found} is not UTF-8; save the file in that encoding"
                ) from error
            lines += raw.count(b"\n")
            if text:
                yield text
            if not raw:
                return


def read_text(path: Path) -> str:
    """All of a file; `InputError` where that is white space alone."""
    require_text(path)
    return "".join(read_blocks(path))


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, one after another, but for an empty last one; not as str.splitlines has them, for which a
    form feed or a Unicode line separator ends a line too. `InputError` at its end where it holds white space alone."""
    begun, empty = list[str](), True
    for block in read_blocks(path):
        empty = empty and not block.strip()
        first, *others = block.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    if empty:
        raise InputError(f"{path} is empty")
    if last := "".join(begun):
        yield last


def pieces(text: Iterable[str], length: int) -> Iterator[str]:
    """A text in pieces of at least `length` characters but for the last, the same however its blocks were cut: each
    ends before white space that follows a word, over which no token of ours or of GPT-2's reaches. Where no word ends
    in `LONGEST` times the length, as in Chinese or in base pairs, the piece ends there."""
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
