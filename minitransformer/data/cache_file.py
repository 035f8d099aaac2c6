"""Large files of the cache, each written once, by its name."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from minitransformer.data.packages import make_writable
from minitransformer.files import atomic, unfinished

ABANDONED = 24 * 60 * 60
"""Seconds since an unfinished file was last written, after which nobody writes it any more."""


@contextmanager
def cache_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which has its name when the block ends well, and is gone if it raises: see `atomic`.

    Its folder is made, or `InputError` raised. What runs that were killed have left of the same file is removed.
    """
    make_writable(path.parent)
    for left in unfinished(path.parent, re.escape(path.name)):
        with suppress(OSError):  # somebody else's, or another run was faster
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()
    with atomic(path) as temporary, temporary.open("wb") as file:
        yield file
