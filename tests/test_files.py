"""Only regular files are opened."""

import os
import socket
from functools import partial
from pathlib import Path

import pytest

from minitransformer import InputError
from minitransformer.files import open_regular, sha256, write_json
from minitransformer.models.weights import read_safetensors
from minitransformer.tokenization import load_tokenizer
from minitransformer.untrusted import read_json


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


PLACED = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": a_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
OPENED = {mode: partial(open, mode=mode, opener=open_regular) for mode in ("rb", "ab+", "r+b", "wb")}
READERS = {reader.__name__: reader for reader in (sha256, read_json, load_tokenizer, read_safetensors)}


@pytest.mark.parametrize("what", PLACED)
def test_what_is_no_regular_file_is_not_replaced_by_one(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PLACED[what](Path("x"))
    before = Path("x").lstat()
    with pytest.raises(InputError, match=f"x is {what}, not a regular file"):
        write_json("x", 1)
    assert Path("x").lstat() == before
    with pytest.raises(InputError, match="is a folder"):
        write_json("", 1)


@pytest.mark.parametrize("what", PLACED)
@pytest.mark.parametrize("read", [*OPENED.values(), *READERS.values()], ids=[*OPENED, *READERS])
def test_only_regular_files_are_opened(what, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 108 bytes
    PLACED[what](Path("x"))
    with pytest.raises(InputError, match=rf"x is ({what}, not a regular file|a link)"):
        read(Path("x"))


def test_a_file_is_opened_as_usual_but_a_link_is_not_written_through(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    with pytest.raises(FileNotFoundError):
        OPENED["rb"](path)
    for mode in ("wb", "ab+", "r+b"):
        with OPENED[mode](path) as file:
            file.write(b"a")
    link.symlink_to(path)
    with OPENED["rb"](link) as file:
        assert file.read() == b"aa"
    with pytest.raises(InputError, match="is a link, and would be written to"):
        OPENED["ab+"](link)
