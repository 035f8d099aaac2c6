"""Large pairs of files, which are read line by line and mapped, against what is read of them whole."""

import tempfile
import warnings
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data import aligned, columns, load, remembered, running_text, table_rows
from minitransformer.data.aligned import aligned_rows
from minitransformer.data.columns import text_batches, texts
from minitransformer.data.running_text import read_lines, read_text
from minitransformer.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """In which every file counts as a large one."""
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "LARGE", 0)
    return tmp_path / "cache" / "tables"


def write(folder, source, target):
    files = folder / "train.de", folder / "train.en"
    for file, text in zip(files, (source, target), strict=True):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return files


def in_memory(*files):
    """What comes of the same files where they count as small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "LARGE", 1 << 40)
        return aligned_rows(*files)


def outcome(read, files):
    """The rows that come of two files, or what is said against them, and the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = read(*files)
        except InputError as error:
            return str(error), []
        rows = {name: list(found[name]) for name in ("source", "target")}
    return rows, [str(warning.message) for warning in said]


contents = st.binary(max_size=30) | st.text("ab é猫\n\r\x0c\u2028\t", max_size=60).map(str.encode)


@settings(max_examples=200, deadline=None)
@given(contents, st.integers(1, 8))
def test_blocks_and_lines_make_up_the_text_that_the_file_holds(content, block):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_text, "BLOCK_BYTES", block)
        path = Path(folder) / "a.txt"
        path.write_bytes(content)
        try:
            expected = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            expected = None
        for read, part_of in ((read_text, str), (lambda path: list(read_lines(path)), lines_of)):
            if expected is None:
                with pytest.raises(InputError, match=r"line \d: byte 0x.. is not UTF-8"):
                    read(path)
            elif not expected.strip():
                with pytest.raises(InputError, match="is empty"):
                    read(path)
            else:
                assert read(path) == part_of(expected)


def lines_of(text):
    return text.removesuffix("\n").split("\n")


lines = st.lists(st.tuples(*[st.text("ab é猫\x0c\u2028\t ", max_size=6)] * 2), max_size=12)


@settings(max_examples=200, deadline=None)
@given(lines, st.sampled_from(["", "\n", "\n\n", "\r\nmore"]), st.integers(1, 9))
def test_large_files_give_the_rows_the_warnings_and_the_errors_of_small_ones(pairs, end, batch):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", folder)
        patch.setattr(table_rows, "_BATCH", batch)
        source, target = ("\n".join(side) for side in zip(*pairs, strict=True)) if pairs else ("", "")
        files = write(Path(folder), "\ufeff" + source, target + end)
        expected = outcome(in_memory, files)
        assert outcome(aligned_rows, files) == expected
        assert outcome(aligned_rows, files) == expected  # found again


def test_bytes_that_are_no_text_are_refused_in_either_file(tmp_path, cache):
    for sides in ((b"a\nb\n\xe9\n", "a\nb\nc\n"), ("a\nb\nc\n", b"a\nb\n\xe9\n")):
        files = write(tmp_path, *sides)
        said, _ = outcome(aligned_rows, files)
        assert said == outcome(in_memory, files)[0]
        assert "line 3: byte 0xe9 is not UTF-8" in said
    assert list(cache.iterdir()) == []


def test_a_table_is_made_once_and_is_that_of_both_files(tmp_path, cache, monkeypatch):
    files = write(tmp_path, "a\n\nb\n", "A\nB\nC\n")
    expected = outcome(aligned_rows, files)
    assert expected[1] == [f"{files[0]}: dropped 1 of 3 rows, where source or target is empty: line 2"]
    written = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(aligned, "read_lines", lambda path: pytest.fail("is read again"))
        assert outcome(aligned_rows, files) == expected
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == written
    for sides in (("a\n\nc\n", "A\nB\nC\n"), ("a\n\nb\n", "A\nB\nD\n")):
        files = write(tmp_path, *sides)
        assert outcome(aligned_rows, files) == outcome(in_memory, files)
    assert len(list(cache.glob("*.arrow"))) == 3
    assert outcome(aligned_rows, files[::-1])[0] == {"source": ["A", "D"], "target": ["a", "b"]}
    assert len(list(cache.glob("*.arrow"))) == 4


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("after", ["hashing", "reading"])
def test_a_file_that_changes_while_it_is_read_leaves_nothing_under_the_old_name(
    after, place, tmp_path, cache, monkeypatch
):
    files = write(tmp_path, "a\nb\n", "A\nB\n")

    def edited(value):
        files[place].write_text("changed\nlines\n")
        return value

    with monkeypatch.context() as patch:
        if after == "hashing":
            patch.setattr(table_rows, "noted", lambda path, *names: edited(None))
        else:
            patch.setattr(aligned, "read_lines", lambda path: edited(read_lines(path)))
        said, _ = outcome(aligned_rows, files)
    assert said == f"{files[place]} changed while it was read: start again"
    assert list(cache.iterdir()) == []
    assert outcome(aligned_rows, files) == outcome(in_memory, files)


@pytest.mark.parametrize("suffix", ["arrow", "json"])
def test_a_torn_table_is_made_again(suffix, tmp_path, cache):
    files = write(tmp_path, "a\nb\n", "A\nB\n")
    expected = outcome(aligned_rows, files)
    (damaged,) = cache.glob(f"*.{suffix}")
    whole = damaged.read_bytes()
    for length in (0, 7, len(whole) - 4):
        damaged.unlink()
        damaged.write_bytes(whole[:length])
        assert outcome(aligned_rows, files) == expected
        assert damaged.read_bytes() == whole
    damaged.unlink()
    assert outcome(aligned_rows, files) == expected
    assert damaged.read_bytes() == whole


def test_a_folder_has_large_splits_mapped_and_small_ones_in_memory(tmp_path, monkeypatch):
    write(tmp_path, "ja\nnein\n", "yes\nno\n")
    (tmp_path / "val.de").write_text("ja\n")
    (tmp_path / "val.en").write_text("yes\n")
    monkeypatch.setattr(remembered, "LARGE", 10)
    corpus = load(tmp_path, source="de", target="en")
    assert corpus["train"][:] == {"source": ["ja", "nein"], "target": ["yes", "no"]}
    assert corpus["validation"][:] == {"source": ["ja"], "target": ["yes"]}
    assert [bool(corpus[name].cache_files) for name in ("train", "validation")] == [True, False]
    assert corpus["train"].features == corpus["validation"].features


def test_files_without_splits_are_split_as_small_ones_are(tmp_path, monkeypatch):
    numbers = "".join(f"{n}\n" for n in range(40))
    write(tmp_path, numbers, numbers)
    large = load(tmp_path / "train", source="de", target="en")
    monkeypatch.undo()
    small = load(tmp_path / "train", source="de", target="en")
    assert {name: rows[:] for name, rows in large.items()} == {name: rows[:] for name, rows in small.items()}


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_texts_come_a_few_rows_at_a_time_from_every_kind_of_data_set(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(columns, "ROWS", rows)
    monkeypatch.setattr(table_rows, "_BATCH", 8)
    numbers = [str(n) for n in range(20)]
    mapped = aligned_rows(*write(tmp_path, "\n".join(numbers), "\n".join(f"<{n}>" for n in numbers)))
    copied = datasets.Dataset.from_dict(mapped[:])
    for split in (mapped, copied):
        assert list(texts(split, "target")) == [f"<{n}>" for n in numbers]
        chosen = split.select([5, 3, 19])
        assert next(text_batches(chosen, "source"))["source"] == ["5", "3", "19"][:rows]
        assert list(texts(chosen, "source")) == ["5", "3", "19"]
        assert list(texts(split.rename_columns({"source": "target", "target": "source"}), "target")) == numbers
        assert all(len(batch["source"]) <= rows for batch in text_batches(split, "target", "source"))
    assert columns._file_of(mapped) is not None
    assert columns._file_of(mapped.select([1])) is columns._file_of(copied) is None
