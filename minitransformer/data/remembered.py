"""What reading a large file from end to end has shown, kept for the next run that asks."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from minitransformer.data.packages import cache_folder
from minitransformer.errors import InputError
from minitransformer.files import write_json

LARGE = 8_000_000
"""Files of fewer bytes are read anew each time."""
_FORMAT = 1
"""Another number wherever reading, counting or hashing changes: what was found before is then found anew."""
SETTLED = 2_000_000_000
"""Nanoseconds since its last change, after which another change shows in a file's times on every file system."""


def remembered(path: Path, what: str, find: Callable[[], Any]) -> Any:
    """`find()`, a value of JSON that follows from the bytes of a file. Of a large file it is written down in the cache
    folder, and holds as long as the file has its place, its size and its times.

    One of these times, that of the last change of any kind, no program can set back, but on Windows.
    """
    known = _identity(path)
    if path.stat().st_size < LARGE:
        return find()
    name = hashlib.sha256(f"{_FORMAT} {what} {known}".encode(errors="surrogateescape")).hexdigest()[:32]
    try:
        note = cache_folder() / "known" / f"{name}.json"
    except InputError:  # nobody's home folder is known
        return find()
    with suppress(OSError, ValueError, TypeError, KeyError):
        return json.loads(note.read_text(encoding="utf-8"))["found"]
    status = path.stat()
    settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED
    found = find()
    if settled and _identity(path) == known:
        with suppress(OSError):  # a full disk or a folder of somebody else's: it is read again next time
            note.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, {"found": found})
    return found


def sha256(path: Path) -> str:
    """Of a file's bytes; `remembered` knows it as "sha256"."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def watched(path: Path) -> Callable[[], None]:
    """A check that raises `InputError` once a file is not what it is now.

    What is cached under a hash of a file is read from it after the hash was: the check, made before hashing and called
    when all is read, shows that both are of the same bytes.
    """
    before = _identity(path)

    def require_unchanged() -> None:
        if _identity(path) != before:
            raise InputError(f"{path} changed while it was read: start again")

    return require_unchanged


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns} {path.resolve()}"
