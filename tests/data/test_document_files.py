"""A folder or a glob of texts as a corpus of documents."""

import os
import re
from itertools import chain

import pytest

from minitransformer import InputError
from minitransformer.data import load
from minitransformer.data.document_files import document_files
from minitransformer.data.running_text import PIECE, documents
from train.engine.fingerprint import data_fingerprint
from train.pretrain.gpt.settings import GPTSettings


@pytest.fixture
def folder(tmp_path):
    """Twelve texts in two folders."""
    place = tmp_path / "texts"
    (place / "deep/er").mkdir(parents=True)
    for number in range(12):
        below = place / ("deep/er" if number % 2 else "")
        (below / f"{number}.{('txt', 'md', 'py')[number % 3]}").write_text(f"text {number}\n" * (number + 1))
    return place


def texts_of(corpus):
    return {split: ["".join(blocks) for blocks in documents(rows)] for split, rows in corpus.items()}


def test_every_text_of_a_folder_is_whole_in_one_split_wherever_the_folder_lies(folder):
    (folder / "long.txt").write_text("a line of a book\n" * (PIECE // 8))
    (folder / ".hidden.txt").write_text("hidden")
    found = texts_of(load(folder, kind="text"))
    assert [len(found[split]) for split in ("train", "validation", "test")] == [11, 1, 1]
    everything = sorted(file.read_text() for file in document_files(folder))
    assert sorted(chain.from_iterable(found.values())) == everything and len(everything) == 13
    moved = folder.rename(folder.with_name("moved"))
    assert texts_of(load(moved, kind="text")) == found


def test_a_glob_takes_what_it_matches(folder):
    found = texts_of(load(f"{folder}/**/*.py", kind="text"))
    assert sorted(chain.from_iterable(found.values())) == sorted(f"text {n}\n" * (n + 1) for n in (2, 5, 8, 11))
    assert [len(found[split]) for split in found] == [3, 1]


def test_nothing_that_matches_is_refused_and_so_is_a_table(folder):
    with pytest.raises(InputError, match=re.escape(f"no file matches {folder}/*.rs")):
        load(f"{folder}/*.rs", kind="text")
    (folder / "table.csv").write_text("text\na\n")
    with pytest.raises(InputError, match=r"table\.csv is a table"):
        load(f"{folder}/*", kind="text")


def test_every_file_in_another_encoding_is_named_and_none_is_guessed(folder):
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    (folder / "deep/utf16.md").write_bytes("ab".encode("utf-16-le"))
    with pytest.raises(InputError, match="2 of 14 files cannot be read: ") as refused:
        load(folder, kind="text")
    assert "latin.txt, line 1: byte 0xe9 is not UTF-8" in str(refused.value) and "utf16.md" in str(refused.value)
    (folder / "latin.txt").unlink()
    (folder / "deep/utf16.md").write_bytes("ab".encode("utf-16"))
    assert "ab" in chain.from_iterable(texts_of(load(folder, kind="text")).values())


def test_empty_files_and_copies_are_left_out_and_counted(folder):
    (folder / "empty.txt").write_text(" \n")
    (folder / "copy.txt").write_text("text 3\n" * 4)
    with pytest.warns(UserWarning) as caught:
        found = texts_of(load(folder, kind="text"))
    messages = [str(warning.message) for warning in caught]
    assert any("1 of 14 files are empty and are left out" in each and "empty.txt" in each for each in messages)
    assert any("1 of 14 files repeat another file and are left out" in each for each in messages)
    assert sum(map(len, found.values())) == 12


def test_one_text_is_too_few_and_a_folder_with_files_of_splits_is_read_as_such(folder, tmp_path):
    for file in document_files(folder)[1:]:
        file.unlink()
    with pytest.raises(InputError, match="1 files with text are too few to split by file"):
        load(folder, kind="text")
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text(split)
    assert document_files(tmp_path) == [] and texts_of(load(tmp_path, kind="text"))["train"] == ["train"]


def test_a_changed_text_changes_the_fingerprint_and_a_moved_folder_does_not(folder):
    before = data_fingerprint(GPTSettings(data=os.fspath(folder)))
    assert list(before) == ["texts (12 files)"]
    parent = folder.parent / "elsewhere"
    parent.mkdir()
    moved = GPTSettings(data=os.fspath(folder.rename(parent / "texts")))
    assert data_fingerprint(moved) == before
    (parent / "texts/0.txt").write_text("changed")
    assert data_fingerprint(moved) != before
