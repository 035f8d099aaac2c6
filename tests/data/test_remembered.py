"""What is known of a large file without reading it again."""

import os
from pathlib import Path

import pytest

from minitransformer.data import remembered as module
from minitransformer.data import running_text
from minitransformer.data.remembered import remembered
from minitransformer.data.running_text import last_tenth_of_file


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of thirty bytes that counts as a large one, and as an old one."""
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LARGE", 30)
    monkeypatch.setattr(module, "SETTLED", -1)
    path = tmp_path / "text.txt"
    path.write_text("ten bytes." * 3)
    return path


def asked(path, what="length"):
    """Whether the file had to be read."""
    reads = []
    assert remembered(path, what, lambda: reads.append(1) or path.read_text()) == path.read_text()
    return bool(reads)


def test_a_large_file_is_read_once_for_each_question(file, tmp_path):
    assert [asked(file), asked(file), asked(file, "another"), asked(file, "another")] == [True, False, True, False]
    elsewhere = tmp_path / "elsewhere.txt"
    os.link(file, elsewhere)
    assert asked(elsewhere)


def test_a_name_need_not_be_utf_8(file):
    named = file.rename(file.with_name(os.fsdecode(b"text-\xff.txt")))
    assert [asked(named), asked(named)] == [True, False]


def test_a_small_file_is_read_each_time(file, tmp_path):
    file.write_text("few bytes")
    assert asked(file)
    assert asked(file)
    assert not (tmp_path / "cache").exists()


def test_another_text_of_the_same_size_and_date_is_noticed(file):
    assert asked(file)
    before = file.stat()
    file.write_text("TEN BYTES." * 3)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert asked(file)


def test_a_file_that_has_just_changed_or_changes_meanwhile_is_not_remembered(file, monkeypatch):
    remembered(file, "length", lambda: file.write_text("other text" * 3))
    assert asked(file)
    monkeypatch.setattr(module, "SETTLED", 10**12)
    file.write_text("ten bytes." * 3)
    assert asked(file)
    assert asked(file)


@pytest.mark.parametrize("damage", ["", "{", "null", "[1, 2]", "{}"])
def test_a_damaged_note_is_written_anew(damage, file, tmp_path):
    asked(file)
    (note,) = (tmp_path / "cache" / "known").iterdir()
    note.write_text(damage)
    assert asked(file)
    assert not asked(file)


def test_a_cache_folder_that_cannot_be_written_is_done_without(file, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert asked(file)
    assert asked(file)


def test_where_nobodys_home_is_known_nothing_is_remembered(file, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert asked(file)
    assert asked(file)


def test_a_text_is_cut_and_hashed_without_reading_it_again(file, monkeypatch):
    contents = [text.content for text in last_tenth_of_file(file).values()]
    monkeypatch.setattr(running_text, "read_blocks", lambda path: pytest.fail("is read again"))
    assert [text.content for text in last_tenth_of_file(file).values()] == contents
    assert [content.num_bytes for content in contents] == [27, 3]
