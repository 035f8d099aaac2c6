"""Rows of files in the cache folder: made once, whole or not there, found by content."""

import errno
import os
import subprocess
import sys
import time
import warnings

import pytest
from helpers_tables import split_rows, write

from minitransformer import files
from minitransformer.data import load, stored_rows
from minitransformer.data.columns import text_batches, texts
from minitransformer.data.token_rows import token_rows
from minitransformer.errors import InputError
from minitransformer.tokenization import train_character_tokenizer

LINES = "".join(f"human {n},iso {n}\n" for n in range(25))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.csv", "source,target\n,\n" + LINES)


def outcome(path, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        corpus = load(path, **options)
    return {name: split_rows(split) for name, split in corpus.items()}, [str(warning.message) for warning in said]


def arrows(cache):
    return list(cache.glob("[!.]*/*.arrow"))


def test_rows_are_made_once_whatever_the_seed_and_have_a_fingerprint_of_their_content(path, cache, tmp_path):
    first, marks = outcome(path), [split._fingerprint for split in load(path).values()]
    made = {file: file.stat().st_mtime_ns for file in arrows(cache)}
    assert len(made) == 1
    assert outcome(path) == first
    assert outcome(path, seed=1)[0]["test"] != first[0]["test"]
    elsewhere = write(tmp_path / "elsewhere" / "b.csv", path.read_bytes())
    assert [split._fingerprint for split in load(elsewhere).values()] == marks
    assert len({*marks, *(split._fingerprint for split in load(path, seed=1).values())}) == 6
    assert {file: file.stat().st_mtime_ns for file in arrows(cache)} == made


def test_other_bytes_columns_or_ways_to_read_are_other_rows(path, cache, tmp_path):
    load(path)
    load(path, source="target", target="source")
    write(path, path.read_text().replace("human 3,", "person 3,"))
    assert "person 3" in {row[0] for rows in outcome(path)[0].values() for row in rows}
    headerless = "".join(f"a {n}\tb {n}\n" for n in range(20))
    load(write(tmp_path / "b.tsv", "de\ten\n" + headerless))
    load(write(tmp_path / "c.tsv", "de\ten\n" + headerless), source="en", target="de")
    assert len(arrows(cache)) == 5


def test_what_a_killed_run_leaves_is_not_taken_for_whole(path, cache):
    code = (
        "import os, sys; from minitransformer.data import load, stored_rows\n"
        "text, read = stored_rows._text, []\n"
        "def killed(value, column):\n"
        "    read.append(value)\n"
        "    if len(read) == 40: os._exit(9)\n"
        "    return text(value, column)\n"
        "stored_rows._text = killed\n"
        "load(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert list(cache.glob(".*.part"))
    assert not arrows(cache)
    rows, said = outcome(path)
    assert sum(map(len, rows.values())) == 25
    assert said == [f"{path}: dropped 1 of 26 rows, where source or target is empty: line 2"]
    assert not list(cache.glob(".*.part"))


def test_only_what_was_left_a_day_ago_is_removed(path, cache):
    for name, age in (("old", files.ABANDONED + 60), ("young", 60)):
        left = write(cache / f".{name}.part" / "a.arrow", "")
        for file in (left, left.parent):
            os.utime(file, (time.time() - age,) * 2)
    load(path)
    assert [left.name for left in cache.glob(".*.part")] == [".young.part"]


@pytest.mark.parametrize("after", ["hashing", "reading"])
def test_a_file_that_changes_while_it_is_read_is_refused_and_leaves_nothing(after, path, cache, monkeypatch):
    def edited(value):
        write(path, path.read_bytes().replace(b"iso", b"ISO"))
        return value

    with monkeypatch.context() as patch:
        if after == "hashing":
            patch.setattr(stored_rows, "sha256", lambda file, sha256=stored_rows.sha256: edited(sha256(file)))
        else:
            patch.setattr(
                stored_rows, "_text", lambda value, column, text=stored_rows._text: edited(text(value, column))
            )
        with pytest.raises(InputError, match=r"a\.csv changed while it was read: start again"):
            load(path)
    assert not arrows(cache)
    assert ("human 0", "ISO 0") in {row for rows in outcome(path)[0].values() for row in rows}


def token_rows_of(path):
    token_rows(list, tokenizers=[train_character_tokenizer(["a"])], key=[str(path)])


@pytest.mark.parametrize("writer", [load, token_rows_of])
def test_a_cache_folder_that_cannot_be_written_is_said_in_one_line_with_the_way_out(writer, path, tmp_path):
    (tmp_path / "cache").write_text("a file, where the folder should be")
    with pytest.raises(InputError, match=r"cannot be written .*: set MINITRANSFORMER_CACHE") as error:
        writer(path)
    assert str(tmp_path / "cache") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_the_systems_error(path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(stored_rows, "write_json", full)
    with pytest.raises(OSError, match="No space left on device: 'somewhere'"):
        load(path)


@pytest.mark.parametrize("kind", ["pairs", "labelled"])
def test_texts_come_a_few_rows_at_a_time_from_every_kind_of_data_set(kind, tmp_path):
    names = ("source", "target") if kind == "pairs" else ("text", "label")
    rows = [(f"a {n}", f"{n % 7} é") for n in range(2500)]
    path = write(tmp_path / "train.csv", "".join(",".join(row) + "\n" for row in [names, *rows]))
    write(tmp_path / "val.csv", path.read_bytes())
    whole = load(tmp_path, kind=kind)["train"]
    parts = load(path, **({"kind": kind} if kind == "labelled" else {"source": "target", "target": "source"})).values()
    changed = whole.rename_columns({names[0]: names[1], names[1]: names[0]})
    for split in (whole, *parts, whole.select([5, 3, 2000]), whole.select(range(7, 99)), changed, whole.sort(names[0])):
        for column in names:
            assert list(texts(split, column)) == split[column][:]
        batches = list(text_batches(split, *names[::-1]))
        assert all(0 < len(batch[names[0]]) <= 1000 for batch in batches)
        found = [row for batch in batches for row in zip(*(batch[name] for name in names), strict=True)]
        assert found == list(zip(*(split[name][:] for name in names), strict=True))
