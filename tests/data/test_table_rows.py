"""Large tables, which are read row by row and mapped, against the same tables where they count as small ones."""

import csv
import io
import json
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import datasets
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from minitransformer.data import load, remembered, running_text, table_formats, table_rows
from minitransformer.data.columns import text_batches
from minitransformer.data.labelled_files import read_labelled
from minitransformer.data.mapped_splits import split_rows
from minitransformer.data.splits import grouped_split
from minitransformer.errors import InputError

PAIRS = [(f"human {i}", f"iso {i}") for i in range(20)]
LINES = "".join(f"{human},{iso}\n" for human, iso in PAIRS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """In which every file counts as a large one."""
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "LARGE", 0)
    return tmp_path / "cache" / "tables"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def outcome(read, *arguments, **options):
    """The rows of each split, or what is said against them, and the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = read(*arguments, **options)
        except InputError as error:
            return str(error), []
    splits = {name: rows[:] if isinstance(rows, datasets.Dataset) else rows for name, rows in found.items()}
    return splits, [str(warning.message) for warning in said]


def outcomes(read, *arguments, **options):
    """The same of large files, of what is found again of them, and of small ones."""
    large = outcome(read, *arguments, **options)
    again = outcome(read, *arguments, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "LARGE", 1 << 40)
        return large, again, outcome(read, *arguments, **options)


def as_parquet(columns):
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("rows_in_a_batch", ["one", "all"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "source,target\n" + LINES),
        ("a.csv", 'source,x,target\n"one, ""two""\nthr\n\nee",,1\n' + LINES.replace(",", ",,") + "\n,,\n , ,b\na,,\n"),
        ("a.csv", ("\ufeffen,de,format\n" + LINES.replace("\n", ",\n")).replace("\n", "\r\n")),
        ("a.csv", (LINES.replace("human", "text,label").replace(",iso", "")).replace("text,label 0", "text,label")),
        ("a.tsv", '"Hi," he\tsaid."\n' + LINES.replace(",", "\t") + "\tmore\n"),
        ("a.tsv", "Oh!\t\n" + LINES.replace(",", "\t")),
        ("a.tsv", "en\tde\r\n" + LINES.replace(",", "\t").replace("\n", "\r\n").removesuffix("\r\n")),
        ("a.jsonl", as_jsonl([{"de": a, "é\ud800": b} for a, b in PAIRS])),
        ("a.jsonl", as_jsonl([{"text": f"{n} é", "label": n % 2 or None, "more": {}} for n in range(25)]) + "\n\n"),
        ("a.jsonl", as_jsonl([{"text": f"{n}"} for n in range(12)] * 2)),
        ("a.parquet", as_parquet({"a.b": [a for a, _ in PAIRS], "c": [b or None for _, b in PAIRS], "id": [1.5] * 20})),
        (
            "a.parquet",
            as_parquet({"label": [n % 3 for n in range(30)], "text": [f"猫 {n}" for n in range(29)] + [" "]}),
        ),
    ],
)
def test_large_tables_give_the_splits_and_the_warnings_of_small_ones(name, content, rows_in_a_batch, tmp_path, cache):
    path = write(tmp_path / name, content)
    with pytest.MonkeyPatch.context() as patch:
        if rows_in_a_batch == "one":
            patch.setattr(table_rows, "_BATCH", 0)
        large, again, small = outcomes(load, path)
    assert isinstance(large[0], dict), large
    assert large == again == small
    assert len(list(cache.glob("*.arrow"))) == len(list(cache.glob("*.json"))) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "\n \n", "a.csv is empty"),
        ("a.csv", "\nx,y\n1,2\n", "a.csv, line 1 is blank"),
        ("a.csv", "x,y\n", "a.csv has a header, ['x', 'y'], and no rows"),
        ("a.tsv", "x\tx\n1\t2\n", "a.tsv: two columns have one name in ['x', 'x']"),
        ("a.csv", "x,y\n1,2\n1,2,3\n", "line 3: 3 fields, but the header names 2 columns: ['1', '2', '3']"),
        ("a.csv", 'x,y\n"1\n\n2",3\n1\n', "line 5: 1 fields"),
        ("a.csv", 'x,y\n1,2\n"1,2\n', "line 3: not readable as CSV"),
        ("a.csv", b"x,y\n1,2\n\xe9,2\n", "line 3: byte 0xe9 is not UTF-8"),
        ("a.csv", "x,y\n,2\n1,\n", "in each of the 2 rows, x or y is empty"),
        ("a.csv", "x,y,z\n1,2,3\n", "which columns of ['x', 'y', 'z'] to read"),
        ("a.csv", "x,y\n" + "1,2\n" * 20, "1 distinct values of 'target' are too few to split"),
        ("a.jsonl", '{"x": "a"}\n{"x": \n', "line 2: not readable as JSON"),
        ("a.jsonl", '{"x": "a"}\n["a"]\n', "line 2: '[\"a\"]' is not a JSON object"),
        ("a.jsonl", '{"x": "a", "y": "b"}\n{"x": "a", "y": 7}\n', "line 2: 'y' is 7, which is not text"),
        ("a.jsonl", '{"x": "a", "y": "b"}\n\n{"x": "\\udc00", "y": "b"}\n', "line 3: 'x' holds half a character"),
        ("a.jsonl", as_jsonl({f"key {n}": "a"} for n in range(1001)), "line 1001: more than 1,000 distinct keys"),
        ("a.jsonl", b'{"x": "a", "y": "b"}\n{"x": "\xff"}\n', "line 2: byte 0xff is not UTF-8"),
        ("a.parquet", "text", "is not readable as Parquet"),
        ("a.parquet", as_parquet({"text": pyarrow.array([], pyarrow.string())}), "a.parquet has no rows"),
        ("a.parquet", as_parquet({"x": ["a"], "y": [1.5]}), "row 1: 'y' is 1.5, which is not text"),
        ("a.parquet", as_parquet({"x": ["a", "b"], "y": ["c", None]})[:-20] + b"PAR1", "is not readable as Parquet"),
        ("a.parquet", as_parquet({"text": ["x" * 20_000] * 5000}), "unpacks to over 2,000 times its size"),
    ],
)
def test_what_small_tables_are_refused_for_large_ones_are_too(name, content, message, tmp_path, cache):
    large, again, small = outcomes(load, write(tmp_path / name, content))
    assert message in large[0]
    assert large == again == small
    if "to split" not in message:
        assert not cache.is_dir() or list(cache.iterdir()) == []


text = st.text('ab é猫"\n\r\x0c\u2028\t, \0', max_size=40)


@settings(max_examples=150, deadline=None)
@given(text, st.sampled_from(["\t", ","]), st.integers(1, 9))
def test_records_are_those_that_a_reader_of_the_whole_text_finds(content, comma, block):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_text, "BLOCK_BYTES", block)
        path = write(Path(folder) / "a.csv", "\ufeff" + content)
        whole = io.StringIO(path.read_text(encoding="utf-8-sig"))
        quoting = csv.QUOTE_NONE if comma == "\t" else csv.QUOTE_MINIMAL
        try:
            expected = list(csv.reader(whole, delimiter=comma, quoting=quoting, strict=True))
        except csv.Error:
            expected = None
        try:
            found = [row for _, row in table_formats._records(path, tabs=comma == "\t")]
        except InputError as error:
            assert "not readable as CSV" in str(error) if expected is None else not content.strip()
        else:
            assert found == expected


def test_a_table_is_read_once_for_each_choice_of_columns_and_seed(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(remembered, "SETTLED", -1)  # else nothing is remembered of a file this young
    path = write(tmp_path / "a.jsonl", as_jsonl([{"x": a, "y": b, "z": f"{a}{b}", "\ud800": 1} for a, b in PAIRS]))
    first = load(path, source="x", target="y")
    with monkeypatch.context() as patch:
        patch.setattr(table_formats, "read_lines", lambda path: pytest.fail("is read again"))
        again = load(path, source="x", target="y")
        other = load(path, source="x", target="y", seed=1)
    assert {name: rows[:] for name, rows in first.items()} == {name: rows[:] for name, rows in again.items()}
    assert first["test"][:] != other["test"][:]
    marks = [[rows._fingerprint for rows in splits.values()] for splits in (first, again, other)]
    assert marks[0] == marks[1]
    assert len({*marks[0], *marks[2]}) == 6
    assert sorted(load(path, source="z", target="y")["test"]["target"]) == sorted(first["test"]["target"])
    # The same bytes in another format are other rows.
    assert load(write(tmp_path / "b.csv", "x,y\n" + LINES))["train"].num_rows == 16
    with pytest.raises(InputError, match=r"which columns of \['x,y'\]"):
        load(write(tmp_path / "b.tsv", "x,y\n" + LINES))


@pytest.mark.parametrize("after", ["its keys were read", "hashing", "reading"])
def test_a_table_that_changes_while_it_is_read_leaves_nothing_under_the_old_name(after, tmp_path, cache, monkeypatch):
    path = write(tmp_path / "a.jsonl", as_jsonl([{"x": a, "y": b} for a, b in PAIRS]))

    def edited(value):
        write(path, as_jsonl([{"x": a, "y": "changed"} for a, _ in PAIRS]))
        return value

    with monkeypatch.context() as patch:
        if after == "its keys were read":
            patch.setattr(table_formats, "_keys", lambda path, keys=table_formats._keys: edited(keys(path)))
        elif after == "hashing":
            patch.setattr(table_rows, "noted", lambda path, *names: edited(None))
        else:
            patch.setattr(pyarrow, "record_batch", lambda *a, batch=pyarrow.record_batch, **k: edited(batch(*a, **k)))
        with pytest.raises(InputError, match="changed while it was read: start again"):
            load(path)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("suffix", ["arrow", "json"])
def test_a_torn_file_of_a_table_or_of_a_part_is_made_again(suffix, tmp_path, cache):
    path = write(tmp_path / "a.csv", "x,y\n,\n" + LINES)
    expected = outcome(load, path)
    files = {file: file.read_bytes() for file in cache.iterdir()}
    damaged = [file for file in files if file.suffix == f".{suffix}"]
    assert len(damaged) == 4
    for file in damaged:
        file.unlink()
        file.write_bytes(files[file][:-4])
        assert outcome(load, path) == expected
        assert {file: file.read_bytes() for file in cache.iterdir()} == files


@pytest.mark.parametrize("part", ["rows", "dropped", "first"])
def test_a_note_that_lacks_something_is_written_anew(part, tmp_path, cache):
    path = write(tmp_path / "a.csv", "x,y\n,\n" + LINES)
    expected = outcome(load, path)
    for file in cache.glob("*.json"):
        note = json.loads(file.read_text())
        note.pop(part, None)
        file.write_text(json.dumps(note))
    assert outcome(load, path) == expected


def test_every_way_to_read_the_same_bytes_has_a_file_of_its_own(tmp_path):
    content = "a,b\tc,d,e\n" + "".join(f"{n},b{n}\tc{n % 3},d{n},e{n}\n" for n in range(20))
    paths = [write(tmp_path / name, content) for name in ("a.csv", "b.tsv")]
    columns = [("a", "d"), ("d", "a"), ("a", "e"), (None, None)]
    for path in paths:
        for source, target in columns:
            large, again, small = outcomes(load, path, source=source, target=target)
            assert large == again == small
    large, again, small = outcomes(read_labelled, write(tmp_path / "labels.tsv", content))
    assert large == again == small


def test_rows_that_are_split_by_another_column_are_other_parts(tmp_path):
    rows = load(write(tmp_path / "train.csv", "source,target\n" + LINES).rename(tmp_path / "a.csv"))["train"]
    for by in ("source", "target"):
        assert {name: part[:] for name, part in split_rows(rows, by=by).items()} == grouped_split(rows[:], by=by)


few = st.sampled_from(
    ["a", "b", "aé", "猫", "\U0001f600", "\uffee", "a\0b", "z", "Z", "e\u0301", "é", "0", "1", "2", "3"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(few, few), min_size=5, max_size=60), st.integers(0, 9), st.integers(0, 20))
def test_a_mapped_table_has_the_parts_of_one_in_memory(rows, seed, batch):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", folder)
        patch.setattr(table_rows, "_BATCH", batch)
        path = write(Path(folder) / "a.jsonl", as_jsonl({"source": a, "target": b} for a, b in rows))
        large, again, small = outcomes(load, path, seed=seed)
        assert large == again == small
        path = write(Path(folder) / "b.jsonl", as_jsonl({"text": a} for a, _ in rows))
        large, again, small = outcomes(load, path, seed=seed)
        assert large == again == small


def test_parts_are_read_from_their_files_and_have_no_other_rows(tmp_path):
    for rows in load(write(tmp_path / "a.csv", "x,y\n" + LINES)).values():
        assert [Path(file["filename"]).stem for file in rows.cache_files] == [rows._fingerprint]
        assert rows._indices is None
        assert [text for batch in text_batches(rows, "source") for text in batch["source"]] == rows[:]["source"]


def test_a_folder_of_tables_has_large_splits_mapped_and_small_ones_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", 100)
    write(tmp_path / "train.tsv", "Good day\tGuten Tag\n" + LINES.replace(",", "\t"))
    write(tmp_path / "val.tsv", "Danke\tThanks\n")
    with pytest.raises(InputError, match="has a header"):
        load(tmp_path)
    write(tmp_path / "val.tsv", "Danke\tThanks\nJa\tYes\n")
    with pytest.warns(UserWarning, match="has no header"):
        corpus = load(tmp_path)
    assert [bool(corpus[name].cache_files) for name in ("train", "validation")] == [True, False]
    assert corpus["train"].features == corpus["validation"].features
    assert corpus["train"][0] == {"source": "Good day", "target": "Guten Tag"}
    assert corpus["validation"][:] == {"source": ["Danke", "Ja"], "target": ["Thanks", "Yes"]}


LABELLED = [(f"text {n}", "good" if n % 3 else "bad") for n in range(30)]


def lines_of(rows, comma):
    return "".join(f"{comma.join(row)}\n" for row in rows)


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("header", [(), ("text", "label"), ("utterance", "mood"), ("same", "same 2")])
def test_headers_of_large_tables_of_labels_are_found_as_those_of_small_ones(header, flip, suffix, tmp_path):
    rows = [header, *LABELLED] if header else LABELLED
    if header == ("same", "same 2"):  # both columns have as many different entries
        rows = [("a", "b"), *((f"{n}", f"{n}") for n in range(12)), ("a", "c"), ("d", "b")]
    rows = [row[::-1] for row in rows] if flip else rows
    path = write(tmp_path / f"a{suffix}", lines_of(rows, "\t" if suffix == ".tsv" else ","))
    large, again, small = outcomes(read_labelled, path)
    assert large == again == small
    if header in ((), ("text", "label")):
        assert len(large[0]["train"]["text"]) == 24
        assert {*large[0]["train"]["label"]} == {"good", "bad"}
    else:
        assert ("which of" if header == ("utterance", "mood") else "add a header") in large[0]


@pytest.mark.parametrize("header", [(), ("text", "label")])
def test_a_large_folder_of_labels_is_read_as_a_small_one(header, tmp_path):
    for name, rows in (("train", LABELLED), ("dev", [("a", "bad"), ("", "good")]), ("test", [("a", ""), ("b", " ")])):
        write(tmp_path / f"{name}.tsv", lines_of([header, *rows] if header else rows, "\t"))
    large, again, small = outcomes(read_labelled, tmp_path)
    assert large == again == small
    assert [list(large[0]), large[0]["validation"]] == [["train", "validation"], {"text": ["a"], "label": ["bad"]}]
    assert [said.split(":")[1][:8] for said in large[1]] == [" dropped", " test ha"]


def test_different_texts_are_counted_however_many_there_are(monkeypatch):
    from minitransformer.data import labelled_files

    monkeypatch.setattr(labelled_files, "_MOST_NEW", 3)
    different = labelled_files._Different("7")
    for number in range(100):
        different.add(str(number % 40))
    assert different.count() == different.count() == 40


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_of_a_large_table_only_a_few_rows_are_in_memory(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(running_text, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr(table_rows, "_BATCH", 1 << 16)
    rows = [(f"{n} " + "source " * 100, f"{n} " + "target " * 100) for n in range(3000)]
    columns = dict(zip(("x", "y"), zip(*rows, strict=True), strict=True))
    content = {
        "csv": lambda: "x,y\n" + lines_of(rows, ","),
        "jsonl": lambda: as_jsonl({"x": a, "y": b} for a, b in rows),
        "parquet": lambda: as_parquet({name: list(texts) for name, texts in columns.items()}),
    }[suffix]()
    path = write(tmp_path / f"a.{suffix}", content)
    load(write(tmp_path / "b.csv", "x,y\n" + LINES))  # what is imported on the way
    tracemalloc.start()
    corpus = load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(corpus.num_rows.values()) == 3000
    assert most < 1_900_000  # of 4,200,000 characters
