"""Files of bytes become rows, or one clear line says what is wrong with them."""

import csv
import io
import json
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import pyarrow
import pytest
from helpers_tables import PAIRS, as_jsonl, as_parquet, refused, rows_of, write
from hypothesis import example, given
from hypothesis import strategies as st

from minitransformer.data import load
from minitransformer.data.files import read_table
from minitransformer.data.headers import Wanted
from minitransformer.data.tables import aligned_table

LINES = "".join(f"{human},{iso}\n" for human, iso in PAIRS)


def written(suffix, names, rows):
    """The bytes of a table, by the standard libraries."""
    if suffix == ".parquet":
        return as_parquet({name: [row[place] for row in rows] for place, name in enumerate(names)})
    if suffix == ".jsonl":
        return as_jsonl(dict(zip(names, row, strict=True)) for row in rows).encode()
    stream = io.StringIO()
    if suffix == ".tsv":
        stream.write("".join("\t".join(row) + "\n" for row in [names, *rows]))
    else:
        csv.writer(stream).writerows([names, *rows])
    return stream.getvalue().encode()


odd = st.sampled_from(
    ["a\0b", "a\rb", "\x85", "007", "NA", "null", "nan", "1e3", "True", "2011-05-19", " padded ", "-0", '"', '""', ","]
)
cells = odd | st.text("ab é猫\"\x0c\u2028', \N{GRINNING FACE}", max_size=9)
text_cells = cells | st.text("a\n\r\t\"'", max_size=6).map(lambda text: text.replace("\r", ""))


@given(st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]), st.data())
def test_text_comes_back_from_a_table_as_it_was_written(suffix, data):
    each = cells if suffix == ".tsv" else text_cells
    rows = data.draw(st.lists(st.tuples(each, each), min_size=1, max_size=6))
    if suffix == ".tsv":
        rows.append(("no", "quotes"))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a{suffix}", written(suffix, ("source", "target"), rows))
        table = read_table([path], Wanted())
        assert table.names == ["source", "target"]
        assert [tuple(values) for _, values in table.read(["source", "target"])] == rows
        assert [tuple(values) for _, values in table.read(["target"])] == [(row[1],) for row in rows]


@given(
    st.lists(st.tuples(*[st.text("ab é猫\r\v\x0c\x1c\x85\u2028\t\0 ", max_size=6)] * 2), max_size=9), st.integers(0, 2)
)
@example([("a", "b"), ("", "c")], 1)
@example([("\0\0", ""), ("\0\0\0", "")], 0)
def test_aligned_files_give_line_n_with_line_n_or_say_which_is_longer(pairs, more):
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"train.{suffix}" for suffix in ("de", "en")]
        first = "first" * 50  # a file in which every fourth byte is 0 is refused
        sides = [first, *(pair[0] for pair in pairs)], [first, *(pair[1] for pair in pairs), *["more"] * more]
        for file, side in zip(files, sides, strict=True):
            write(file, "\ufeff" + "".join(f"{line}\r\n" for line in side))
        for order in (1, -1):
            table = aligned_table(*files[::order])
            if more:
                with pytest.raises(ValueError, match=rf"train\.en has {more} more, from line {len(pairs) + 2}, 'more'"):
                    list(table.read(["de", "en"]))
            else:
                found = list(table.read(["de", "en"]))
                expected = [(first, first), *([side.rstrip("\r") for side in pair] for pair in pairs)]
                assert found == [(n, [*pair]) for n, pair in enumerate(expected, 1)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_fields_of_any_length_are_read(suffix, tmp_path):
    limit = csv.field_size_limit()
    rows = [(f"human {i}", f"iso {i}") for i in range(20)] + [("long " * 100_000 + ".", "x")]
    path = write(tmp_path / f"a{suffix}", written(suffix, ("source", "target"), rows))
    assert rows_of(load(path)) == sorted(rows)
    assert csv.field_size_limit() == limit  # it is the process's


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "\n \n", "a.csv is empty"),
        ("a.txt", "\n\n", "a.txt is empty"),
        ("a.csv", "\nx,y\n1,2\n", "a.csv, line 1 is blank"),
        ("a.csv", "source,target\n", "a.csv has a header, ['source', 'target'], and no rows"),
        ("a.tsv", "text\ttext\n1\t2\n", "a.tsv: two columns have one name in ['text', 'text']"),
        ("a.csv", "x,y\n1,2\n1,2,3\n", "line 3: 3 fields, but the first line has 2: ['1', '2', '3']"),
        ("a.csv", 'x,y\n"1\n\n2",3\n1\n', "line 5: 1 fields"),
        ("a.csv", 'x,y\n1,2\n"1,2\n', "line 3: not readable as CSV"),
        ("a.csv", b"x,y\n1,2\n\xe9,2\n", "line 3: byte 0xe9 is not UTF-8"),
        ("a.txt", b"\xef\xbb\xbfx,y\n1,2\n\xe9,2\n", "line 3: byte 0xe9 is not UTF-8"),
        ("a.csv", "x,y\n,2\n1,\n", "in each of the 2 rows, x or y is empty"),
        ("a.csv", "x,y,z\n1,2,3\n", "which columns of ['x', 'y', 'z'] to read as source and target"),
        ("a.csv", "x,y\n" + "1,2\n" * 20, "a.csv: 1 distinct values of 'target' are too few to split"),
        ("a.jsonl", '{"x": "a"}\n{"x": \n', "line 2: not readable as JSON"),
        ("a.json", '[{"x": "a", "y": "b"}]', "is not a JSON object with a key for each column; write one a line"),
        (
            "a.jsonl",
            '{"x": "a", "y": "b"}\n{"x": "a", "y": "b", "x": "c"}\n',
            "line 2: not readable as JSON: a key is given",
        ),
        (
            "a.jsonl",
            '{"de": "a", "translation": {"de": "b", "en": "c"}}',
            "line 1: 'de' is a key beside 'translation' and",
        ),
        ("a.jsonl", '{"x": "a"}\n["a"]\n', "line 2: '[\"a\"]' is not a JSON object"),
        ("a.jsonl", '{"x": "a", "y": "b"}\n{"x": "a", "y": 7}\n', "line 2: 'y' is 7, which is not text"),
        ("a.jsonl", '{"text": "a", "label": 0.5}\n', "line 1: 'label' is 0.5, which is not text"),
        ("a.jsonl", '{"x": "a", "y": "b"}\n\n{"x": "\\udc00", "y": "b"}\n', "line 3: 'x' is '\\udc00', which holds"),
        ("a.csv", "x,y\n1,2\n1,a\rb\n", "line 3: not readable as CSV: a carriage return in a field without quotes"),
        ("a.jsonl", as_jsonl({f"key {n}": "a"} for n in range(1000)), "which columns of"),
        ("a.jsonl", as_jsonl({f"key {n}": "a", "b": "c"} for n in range(1001)), "line 1000: more than 1,000 distinct"),
        ("a.jsonl", b'{"x": "a", "y": "b"}\n{"x": "\xff"}\n', "line 2: byte 0xff is not UTF-8"),
        ("a.parquet", "text", "is not readable as Parquet"),
        ("a.parquet", as_parquet({"text": pyarrow.array([], pyarrow.string())}), "a.parquet has no rows"),
        ("a.parquet", as_parquet({"x": ["a"], "y": [1.5]}), "row 1: 'y' is 1.5, which is not text"),
        ("a.parquet", as_parquet({"x": ["a", "b"], "y": ["c", None]})[:-20] + b"PAR1", "is not readable as Parquet"),
        ("a.parquet", as_parquet({"text": ["x" * 20_000] * 5000}), "unpacks to over 2,000 times its size"),
        ("a.xlsx", "x", "files end in .csv, .tsv, .jsonl, .json, .parquet, .txt; save the table as .csv"),
        ("a.csv", "text|label\na, b|c\nd|e\n", "seem to be divided by '|': put a line sep=| above the first"),
        ("a.pkl", "x", "a.pkl is refused: it is a pickle"),
        ("b/train.ods", "x", "save the table as .csv"),
        ("b/train.csv.gz", "x", "files end in .csv, .tsv, .jsonl, .json, .parquet, .txt; unpack it first"),
        ("b/train.de.gz", "x", "train.de.gz in"),
        ("a.csv", b"PK\3\4\xff", "a.csv is a ZIP archive or a spreadsheet, not text, whatever its name"),
        (
            "a.json",
            "[\n  {}\n]",
            "line 1: not readable as JSON: Expecting value: line 1 column 2 (char 1); write one object",
        ),
        ("b/train.docx", "x", "save it as text, in .txt"),
        ("b/train.pkl", "x", "train.pkl is refused: it is a pickle"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_file_is_refused_in_one_line(name, content, message, tmp_path):
    path = write(tmp_path / name, content)
    refused(path, message)
    if path.parent != tmp_path:
        refused(path.parent, message)


@pytest.mark.parametrize(
    ("name", "content", "dropped"),
    [
        ("a.csv", "source,target\n,a\n\nb, \n" + LINES, "3 of 23 rows, where source or target is empty: line 2, 3, 4"),
        ("a.csv", "source,target\n\u200b,a\nb,\u2063\ufe0f\nc,\u3164\nd,\u2800 \n\x1f,e\n" + LINES,
         "5 of 25 rows, where source or target is empty: line 2, 3, 4, 5, 6"),
        ("a.tsv", "source\ttarget\n\ta\n" + LINES.replace(",", "\t"), "1 of 21 rows, where .* is empty: line 2"),
        ("a.jsonl", as_jsonl({"de": a, "en": b} for a, b in [*PAIRS, ("", "x"), ("x", "\t")]) + '{"de": "a"}\n\n',
         "4 of 24 rows, where de or en is empty: line 21, 22, 23, 24"),
        ("a.csv", "source,target\n" + LINES + ",\n" * 6, "6 of 26 rows, where .* line 22, 23, 24, 25, 26, ..."),
        ("a.csv", "source,target\n" + LINES + "source,target\n\ufeffsource,target\n",
         "2 of 22 rows, which are the header again: line 22, 23"),
        ("a.csv", "source,target\n,\n" + LINES + "\ufeffsource, target,,\n",
         "1 of 22 rows, where .* line 2"),
        ("a.tsv", "source\ttarget\nsource\ttarget\n" + LINES.replace(",", "\t"), "1 of 21 rows, which are .* line 2"),
        ("a.parquet", as_parquet({"x": ["a", *(a for a, _ in PAIRS)], "y": [None, *(b for _, b in PAIRS)]}),
         "1 of 21 rows, where x or y is empty: row 1"),
    ],
)  # fmt: skip
def test_rows_with_an_empty_side_and_headers_are_dropped_and_counted_every_time(name, content, dropped, tmp_path):
    path = write(tmp_path / name, content)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert rows_of(load(path)) == sorted(PAIRS)
        assert [str(warning.message) for warning in said][-1].startswith(f"{path}: dropped {dropped[0]}")
        with pytest.warns(UserWarning, match=rf"{name}: dropped {dropped}$"):
            load(path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_blank_lines_below_many_columns_take_no_room_for_each(suffix, tmp_path):
    names = ["source", "target", *(f"column {number}" for number in range(900))]
    path = write(tmp_path / f"a.{suffix}", written(f".{suffix}", names, [[f"{row}"] * len(names) for row in range(20)]))
    with path.open("a") as file:
        file.write("\n" * 4000)
    tracemalloc.start()
    with pytest.warns(UserWarning, match="dropped 4000 of 4020 rows"):
        corpus = load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows_of(corpus)) == 20
    assert most < 12_000_000  # 8 bytes for each field would be 29 MB


def test_keys_of_json_lines_may_come_in_any_order_and_late(tmp_path):
    rows = [{"en": b, "de": a} if n % 2 else {"de": a, "en": b} for n, (a, b) in enumerate(PAIRS)]
    path = write(tmp_path / "a.jsonl", as_jsonl(rows))
    assert rows_of(load(path, source="de", target="en")) == sorted(PAIRS)
    late = write(tmp_path / "b.jsonl", json.dumps({"text": "a"}) + "\n" + "\n" * 1000 + json.dumps({"b": "c"}))
    for _ in range(2):
        assert read_table([late], Wanted()).names == ["text", "b"]
    half = write(tmp_path / "c.jsonl", '{"text": "a", "\\ud800": 1}')
    assert read_table([half], Wanted()).names == ["text", "\ud800"]
