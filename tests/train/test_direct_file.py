"""`direct_file` writes what it is given, whatever the file system can do."""

import errno
import os
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from train.engine import direct_file as module
from train.engine.direct_file import direct_file

BLOCK = 4096


def write(path: Path, parts: list[bytes]) -> bytes:
    with direct_file(path) as add:
        for part in parts:
            add(memoryview(part))
    return path.read_bytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.sampled_from([0, 1, 100, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 5 * BLOCK]), max_size=6))
@pytest.mark.parametrize("folder", ["disk", "memory"])
def test_the_file_has_every_byte_in_order(
    folder: str, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUFFER", 2 * BLOCK)
    path = (tmp_path if folder == "disk" or not Path("/dev/shm").is_dir() else Path("/dev/shm")) / f"{os.getpid()}.bin"
    parts = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    try:
        assert write(path, parts) == b"".join(parts)
    finally:
        path.unlink()


class Refusing(FileIO):
    """A file on a file system that takes the flag, and then no write under it."""

    refused = 0

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        if module.fcntl.fcntl(self, module.fcntl.F_GETFL) & os.O_DIRECT:
            Refusing.refused += 1
            raise OSError(errno.EINVAL, "no direct writing here")
        return super().write(data[: BLOCK + 1])


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="the system has no direct writing")
def test_where_direct_writing_fails_the_cache_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUFFER", 2 * BLOCK)
    monkeypatch.setattr(module, "FileIO", Refusing)
    parts = [b"a" * BLOCK, b"b" * 3 * BLOCK, b"c"]
    assert write(tmp_path / "a", parts) == b"".join(parts)
    assert Refusing.refused == 1  # the flag had been set, and is not set again


def test_a_system_without_direct_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUFFER", BLOCK)
    monkeypatch.setattr(module, "fcntl", None)
    assert write(tmp_path / "a", [b"a" * 3 * BLOCK, b"b"]) == b"a" * 3 * BLOCK + b"b"


def test_other_errors_of_a_write_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module, "BUFFER", BLOCK)
    monkeypatch.setattr(module, "FileIO", Full)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "a", [b"a" * 2 * BLOCK])
