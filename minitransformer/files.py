"""Opening regular files alone, and writing atomically: a reader sees the old file or the new one, never half of one."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError

ABANDONED = 24 * 60 * 60
"""Seconds without a change after which the process that wrote an unfinished file has surely ended."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; after the block, flush it to disk and rename it to `path`.

    Until then, and if the block raises, the old file stays intact. Raises `InputError` if a folder or a device stands
    in its place, and `OSError` as `disk_errors` does.
    """
    path = Path(path)
    if path.exists():
        require_regular(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with disk_errors(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the operating system, such as a full disk, are raised as `OSError` with the name of the file.

    safetensors and tokenizers are written in Rust and wrap such errors in classes of their own.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    except Exception as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise


def flush_folder(folder: Path) -> None:
    """Flush a folder to disk, which makes new names in it durable. Windows has no such call and needs none."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems lack this call, too
                raise
        finally:
            os.close(descriptor)


def unfinished(folder: Path, name: str) -> list[Path]:
    """The temporary files and folders in `folder` that killed processes left; their final names match the regular
    expression `name`."""
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{32}}\.part")
    return [
        path
        for path in folder.iterdir()
        if pattern.fullmatch(path.name) and (path.is_file() or path.is_dir()) and not path.is_symlink()
    ]


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove the unfinished files and folders that have not changed for a day, so that no run still writes them."""
    for path in paths:
        with suppress(OSError):  # another user's, or another run removed it
            last = max(file.stat().st_mtime for file in (path, *path.glob("*")))
            if time.time() - last > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def require_regular(path: str | Path) -> None:
    """`InputError` if a folder, a pipe, a device or a socket stands in the place of a file, for libraries that open
    `path` themselves. `FileNotFoundError` if there is nothing."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file")


def require_place_for(path: Path) -> None:
    """`InputError` for the path of a new file whose folder does not exist or is read-only, or where something else than
    a file is."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: {path.parent} cannot be written to")
    if path.exists():
        require_regular(path)


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_KINDS |= {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_regular(path: str | Path, flags: int) -> int:
    """An opener that opens regular files alone: `open(path, "rb", opener=open_regular)`. Opening a pipe would wait for
    ever, and a device never ends. A file to be written in place must not be a link either, because the file that the
    link points to would be overwritten. Raises `InputError` for all of these."""
    path, writes = Path(path), flags & (os.O_WRONLY | os.O_RDWR)
    if writes and path.is_symlink():
        raise InputError(f"{path} is a link, and would be written to: it is refused; remove it")
    if path.exists() or not writes:
        require_regular(path)
    return os.open(path, flags, 0o666)


def write_json(path: str | Path, value: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb", opener=open_regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
