"""Large files that go to the disk as they are written, and not into the system's cache first."""

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_SUCH_WAY = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

BUFFER = 1 << 22
"""Bytes that are written at once: whole blocks of any disk."""


@contextmanager
def direct_file(path: Path) -> Iterator[Callable[[memoryview], None]]:
    """Yield what adds bytes to a new file.

    A checkpoint is read again seldom or never. Room in the cache would have to be found for it, which can take longer
    than the disk, and what was there instead be read anew. Where the system or the file system has no such way, bytes
    go into the cache.
    """
    buffer = mmap.mmap(-1, BUFFER)  # it begins where a page does, as direct writing demands
    filled = 0
    with FileIO(path, "w") as file:
        _set_direct(file, True)

        def write(view: memoryview) -> None:
            nonlocal filled
            while view:
                part = view[: BUFFER - filled]
                buffer[filled : filled + len(part)] = part
                view, filled = view[len(part) :], filled + len(part)
                if filled == BUFFER:
                    _write(file, memoryview(buffer))
                    filled = 0

        yield write
        _set_direct(file, False)  # the rest is no whole number of blocks
        _write(file, memoryview(buffer)[:filled])


def _write(file: FileIO, view: memoryview) -> None:
    while view:
        try:
            view = view[file.write(view) :]
        except OSError as error:
            if error.errno not in _NO_SUCH_WAY or not _set_direct(file, False):
                raise


def _set_direct(file: FileIO, direct: bool) -> bool:
    """Whether that changed anything."""
    if fcntl is None or not hasattr(os, "O_DIRECT"):
        return False
    before = fcntl.fcntl(file, fcntl.F_GETFL)
    after = before | os.O_DIRECT if direct else before & ~os.O_DIRECT
    with suppress(OSError):
        fcntl.fcntl(file, fcntl.F_SETFL, after)
        return after != before
    return False
