"""The cache folder, and whether what lies in it is what was written."""

import os
import shutil
import tempfile
from pathlib import Path

from minitransformer.errors import InputError
from minitransformer.files import sha256

CHECKSUMS = "SHA256SUMS"


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


def make_writable(folder: Path) -> None:
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
    files = sorted((path for path in found if path.name != CHECKSUMS), key=lambda path: path.name)
    if not files or not all(path.is_file() for path in files):
        return None
    return "".join(f"{sha256(path)}  {path.name}\n" for path in files)


def discard(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_room(path: Path) -> Path:
    """Remove what lies in the place of a file but is none, such as a folder, a FIFO or a link to nothing."""
    if not path.is_file():
        discard(path)
    return path
