"""Reading text files in UTF-8 a block or a line at a time, so that none need ever be in memory whole."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from minitransformer.errors import InputError

BLOCK_BYTES = 1 << 20


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """The text of a file in UTF-8, with or without a byte order mark, with any line ends made "\\n".

    `InputError` with the line number for a byte that is not UTF-8.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    lines = 0
    with path.open("rb") as file:
        while True:
            raw = file.read(block_bytes)
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


def read_lines(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """The lines of a file without their ends. Only "\\n", "\\r\\n" and "\\r" end a line, unlike in `str.splitlines`."""
    begun = list[str]()
    for block in read_blocks(path, block_bytes):
        first, *others = block.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    if last := "".join(begun):
        yield last


def require_text(path: Path) -> None:
    """`InputError` for a file of white space alone. Other files are read up to their first text."""
    if not any(block.strip() for block in read_blocks(path)):
        raise InputError(f"{path} is empty")
