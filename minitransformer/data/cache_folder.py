"""The cache folder: folders that are made once, whole or not there, and checked whenever they are read."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from minitransformer.errors import InputError
from minitransformer.files import disk_errors, remove_abandoned, sha256

_CHECKSUMS = "SHA256SUMS"


def cache_folder() -> Path:
    """`$MINITRANSFORMER_CACHE`, else `minitransformer` in `$XDG_CACHE_HOME` or `~/.cache`. `InputError` if there is no
    home folder."""
    chosen = os.environ.get("MINITRANSFORMER_CACHE")
    folder = Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "minitransformer"))
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise InputError(
            f"no home folder is known, so there is no place for {folder}: set MINITRANSFORMER_CACHE to a folder for "
            "files that are made once and kept"
        ) from error


def made_once(folder: Path, make: Callable[[Path], None], is_whole: Callable[[Path], bool] | None = None) -> Path:
    """A folder of the cache, whose files `make` writes into a temporary folder if it is not there or is not whole.

    The folder is whole if its files match their checksums, or if `is_whole` says so. If several programs ask at once,
    one of them makes it. If `make` raises, nothing is left.
    """
    is_whole = is_whole or _is_sealed
    if is_whole(folder):
        return folder
    _make_writable(folder.parent)
    lock = folder.with_name(f".{folder.name}.lock")
    if not lock.is_file():  # but a folder, a FIFO or a link to nothing
        discard(lock)
    with FileLock(lock), disk_errors(folder):
        if is_whole(folder):  # another program was faster
            return folder
        remove_abandoned(folder.parent.glob(".*.part"))
        temporary = folder.with_name(f".{folder.name}.part")
        discard(temporary)
        temporary.mkdir()
        try:
            make(temporary)
            if is_whole is _is_sealed:
                (temporary / _CHECKSUMS).write_text(_seal(temporary, folder.name))
            discard(folder)
            temporary.rename(folder)
        finally:
            discard(temporary)
    return folder


def _is_sealed(folder: Path) -> bool:
    listed = folder / _CHECKSUMS
    return listed.is_file() and listed.read_text(errors="replace") == _seal(folder, folder.name)


def _seal(folder: Path, name: str) -> str:
    return f"{name}\n{checksums(folder)}"


def _make_writable(folder: Path) -> None:
    """Make a folder of the cache. `InputError` if nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}): set MINITRANSFORMER_CACHE to "
            "one that can"
        ) from error


def checksums(folder: Path) -> str | None:
    """A line "SHA-256  name" for each file of a folder, as `sha256sum` writes them. Every byte is read. None if there
    is no folder, or something in it that is no plain file, such as a FIFO, which would be waited for."""
    found = folder.iterdir() if folder.is_dir() else []
    files = sorted((path for path in found if path.name != _CHECKSUMS), key=lambda path: path.name)
    if not files or not all(path.is_file() for path in files):
        return None
    return "".join(f"{sha256(path)}  {path.name}\n" for path in files)


def discard(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
