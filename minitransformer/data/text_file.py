"""Reading text files a block or a line at a time, so that none need ever be in memory whole.

A line ends with a line feed, as `wc -l` counts; carriage returns before it belong to its end. Other characters that
some programs take for the end of a line ("\\r", "\\x0b", "\\x0c", "\\x85", "\\u2028") are characters of the line. Only
in a file without a line feed, as old Macs wrote them, does each carriage return end a line.
"""

import codecs
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from minitransformer.errors import InputError
from minitransformer.files import open_regular

BLOCK_BYTES = 1 << 20
_MARKS = {  # the longer ones first: the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {b"PK\3\4": "a ZIP archive or a spreadsheet", b"\x1f\x8b": "packed by gzip", b"\xd0\xcf\x11\xe0": "of Excel"}
_PACKED |= {
    b"PAR1": "a .parquet file",
    b"%PDF-": "a PDF",
    b"SQLite format 3": "a data base",
    b"ARROW1": "an Arrow file",
}


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """The text of a file, with each line end made "\\n".

    The file is in UTF-8, with or without a byte order mark, or begins with the mark of UTF-16 or UTF-32. `InputError`
    with the line number for a byte that is not of its encoding.
    """
    if _ends_with_carriage_returns(path):
        yield from (block.replace("\r", "\n") for block in _decoded(path, block_bytes))
        return
    waiting = ""
    for block in _decoded(path, block_bytes):
        text = waiting + block
        whole = text.rstrip("\r")  # what follows shows whether these belong to a line end
        waiting = text[len(whole) :]
        if whole:
            yield re.sub("\r+\n", "\n", whole) if "\r" in whole else whole


def read_lines(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """The lines of a file without their ends."""
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
    """`InputError` for a file of white space alone; a warning for line ends of old Macs. Other files are read up to
    their first text."""
    if not any(block.strip() for block in read_blocks(path)):
        raise InputError(f"{path} is empty")
    if _ends_with_carriage_returns(path):
        warnings.warn(f"{path} has no line feed: each carriage return is read as the end of a line", stacklevel=2)


def _ends_with_carriage_returns(path: Path) -> bool:
    found = False
    for block in _decoded(path, BLOCK_BYTES):
        if "\n" in block:
            return False
        found = found or "\r" in block
    return found


def _decoded(path: Path, block_bytes: int) -> Iterator[str]:
    line = 1
    with open(path, "rb", opener=open_regular) as file:
        start = file.read(4096)
        if what := next((what for mark, what in _PACKED.items() if start.startswith(mark)), None):
            raise InputError(f"{path} is {what}, not text, whatever its name: save its content as text, such as .csv")
        encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8-sig")
        if encoding == "utf-8-sig" and start.count(0) * 4 > len(start):
            raise InputError(f"{path}: too many of its bytes are 0 for text in UTF-8; save it in that encoding")
        file.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        while True:
            raw = file.read(block_bytes)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, errors="ignore").count("\n")
                name = encoding.removesuffix("-sig").upper()
                raise InputError(
                    f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not {name}; "
                    "save the file in that encoding"
                ) from error
            line += text.count("\n")
            if text:
                yield text
            if not raw:
                return
