import errno
import os
import tempfile
import time
from pathlib import Path

import pytest

from minitransformer.data.cache_file import cache_file
from minitransformer.data.token_rows import token_rows
from minitransformer.errors import InputError
from minitransformer.tokenization import train_character_tokenizer

DAY = 24 * 60 * 60


def write_tokens(folder):
    token_rows(list, tokenizers=[train_character_tokenizer(["ab"])], key=["a"])


def taken(folder, monkeypatch):
    """Where the cache folder should be is a file."""
    (folder / "cache").write_text("a file")


def forbidden(folder, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)


def read_only(folder, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


@pytest.mark.parametrize("obstacle", [taken, forbidden, read_only])
@pytest.mark.parametrize("write", [write_tokens])
def test_a_cache_folder_that_cannot_be_written_is_said_in_one_line_with_the_way_out(
    write, obstacle, tmp_path, monkeypatch
):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    obstacle(tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"cannot be written .*: set MINITRANSFORMER_CACHE") as error:
        write(tmp_path)
    assert str(tmp_path / "cache") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_killed_runs_left_of_the_same_file_is_removed_after_a_day(tmp_path):
    left = {name: tmp_path / f".{name}.{'0a' * 16}.part" for name in ("a.rows", "young.rows", "other.rows", "a-rows")}
    for name, path in left.items():
        path.write_text("unfinished")
        age = 1 if name == "young.rows" else DAY + 60
        os.utime(path, (time.time() - age,) * 2)
    for name in ("a.rows", "young.rows"):
        with cache_file(tmp_path / name) as file:
            file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["a.rows", "young.rows", *(path.name for name, path in left.items() if name != "a.rows")]
    )
