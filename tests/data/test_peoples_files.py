"""Files as people have them: read as they are meant, or refused in one line that says what to do."""

import csv
import io
import json
import os
import warnings

import pytest
from helpers_tables import as_jsonl, as_parquet, loaded, refused, write

from minitransformer.data import load

PAIRS = [(f"Go {n}.", f"Geh, {n}!") for n in range(20)]
TEXTS = [(f"film {n}, or so", str(n % 2)) for n in range(30)]
CREDITS = "CC-BY 2.0 (France) Attribution: tatoeba.org #{} (CM) & #{} (cburgmer)"


def tabs(*rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["deu.tsv", "deu.txt"])
@pytest.mark.parametrize(
    "rows",
    [
        [(*pair, CREDITS.format(n, n + 1)) for n, pair in enumerate(PAIRS)],
        [(1276 + n, pair[0], 77 + n, pair[1]) for n, pair in enumerate(PAIRS)],
        [(*pair, "") for pair in PAIRS],
        PAIRS,
    ],
)
def test_pairs_of_tatoeba_are_read_without_their_numbers_and_credits(name, rows, tmp_path):
    found, said = loaded(write(tmp_path / name, tabs(*rows)), kind="pairs")
    assert found == sorted(PAIRS)
    assert "has no header: its first line" in said
    assert ("left out: column" in said) == (len(rows[0]) > 2)
    assert ("is read as a table" in said) == name.endswith("txt")


@pytest.mark.parametrize(
    ("mark", "quoted", "name"),
    [
        (mark, quoted, f"deu.{('tsv', 'txt', 'csv')[(place + quoted) % 3]}")
        for place, mark in enumerate(["tab\t", "Comma,", ";;", "Pipe|", "SPACE "])
        for quoted in (False, True)
    ],
)
def test_the_first_lines_of_anki_name_the_separator(name, mark, quoted, tmp_path):
    first = f"#separator:{mark[:-1]}\n#html:true\n#tags column:3\n"
    mark, stream = mark[-1], io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(stream, delimiter=mark, lineterminator="\n", quoting=quoting).writerows((*row, "") for row in PAIRS)
    path = write(tmp_path / name, first + stream.getvalue())
    found, said = loaded(path, kind="pairs")
    assert found == sorted(PAIRS)
    assert "its first lines are not read: ['#html:true', '#tags column:3']" in said
    assert loaded(write(tmp_path / "old.tsv", "#html:true\n" + tabs(*PAIRS)), kind="pairs")[0] == found
    refused(write(tmp_path / "a.tsv", "#separator:tabs\n" + tabs(*PAIRS)), "'tabs' in its first lines is no", "pipe")
    assert loaded(path, source="2", target="1")[0] == sorted(pair[::-1] for pair in PAIRS)
    path.write_text(path.read_text() + '"a"\n')
    refused(path, f"line {len(path.read_text().splitlines())}: 1 fields", source="2", target="1")


def test_columns_of_a_file_without_a_header_have_numbers(tmp_path):
    rows = [("a note", *pair, "x y") for pair in PAIRS]
    path = write(tmp_path / "a.tsv", tabs(*rows))
    refused(path, "which columns of ['1', '2', '3', '4'] to read as source and target", "source= and target=")
    assert loaded(path, source="2", target="3")[0] == sorted(PAIRS)
    refused(path, "has no header, so no column 'de' and 'en'", "by their numbers, 1 to 4", source="de", target="en")
    path = write(tmp_path / "b.tsv", tabs(("ja", "yes"), *PAIRS))  # words, which are no header then
    assert loaded(path, source="2", target="1")[0] == sorted(pair[::-1] for pair in [("ja", "yes"), *PAIRS])


@pytest.mark.parametrize("first", ["", "sep=;\n", "SEP=;\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_table_of_a_spreadsheet_is_read(first, encoding, quoted, tmp_path):
    rows = [("review", "score", "label"), *((text, "1,5", label) for text, label in TEXTS)]
    content = "".join(";".join(f'"{cell}"' if quoted else cell for cell in row) + "\r\n" for row in rows)
    path = write(tmp_path / "a.csv", (first + content).encode(encoding))
    found, said = loaded(path, text="review", label="label")
    assert found == sorted(TEXTS)
    assert ("is read with ';' between its fields" in said) == (not first)


def test_quotes_around_fields_are_characters_in_a_tsv_file_and_marks_in_a_csv_file(tmp_path):
    content = tabs(("source", "target"), *PAIRS, ('"a ""b"" c"', '"d"'))
    found, said = loaded(write(tmp_path / "a.tsv", content))
    assert ('"a ""b"" c"', '"d"') in found
    assert "quotes are read as characters" in said
    assert ('a "b" c', "d") in loaded(write(tmp_path / "a.csv", content))[0]
    content = tabs(("source", "target"), *((f'"{a}"', b) for a, b in PAIRS))
    assert "quotes are read as characters: '\"Go 0.\"'" in loaded(write(tmp_path / "c.tsv", content))[1]
    assert "quotes" not in loaded(write(tmp_path / "b.tsv", tabs(("source", "target"), ('"a"', '"b" "c"'), *PAIRS)))[1]


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("header", ["text\tlabel\n", '"text"\t"label"\n'])
def test_a_tsv_file_whose_fields_are_all_in_quotes_is_read_without_them(quoting, header, tmp_path):
    rows = [(f'a "b"\tc\n{n}', n % 2) for n in range(30)]
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(rows)
    found, said = loaded(write(tmp_path / "a.tsv", header + stream.getvalue() + '""\t""\n'))
    assert found == sorted((text, str(label)) for text, label in rows)
    assert "is read as CSV with tabs: its fields are in quotes" in said
    assert "dropped 1 of 31 rows" in said


def test_spaces_between_a_comma_and_a_quote_belong_to_neither(tmp_path):
    content = "text, label\n" + "".join(f'"film {n}, or so", "{n % 2}, so"\n' for n in range(30))
    found, said = loaded(write(tmp_path / "a.csv", content), kind="labelled")
    assert found == sorted((text, f"{label}, so") for text, label in TEXTS)
    assert "spaces between ',' and a quote are left out" in said
    assert loaded(write(tmp_path / "a.csv", f"sep=,\n{content}"), kind="labelled")[0] == found
    rows = [(f" a {n}", f' "b" {n}') for n in range(20)]  # in quotes, or before no quote, they are text
    content = "source,target\n" + "".join(f'{a},"{b}"\n' for a, b in [(a, b.replace('"', '""')) for a, b in rows])
    assert loaded(write(tmp_path / "b.csv", content)) == (sorted(rows), "")


def test_commas_and_semicolons_in_texts_do_not_change_the_mark(tmp_path):
    rows = [(f"one; two {n}", f"three; {n}") for n in range(20)]
    path = write(tmp_path / "a.csv", "source,target\n" + "".join(f"{a},{b}\n" for a, b in rows))
    assert loaded(path) == (sorted(rows), "")
    path = write(tmp_path / "b.csv", "text\n" + "".join(f'"{a}, {b}"\n' for a, b in rows))
    assert loaded(path, kind="text") == (sorted((f"{a}, {b}",) for a, b in rows), "")


def test_quoted_fields_run_over_lines_and_lines_are_still_counted(tmp_path):
    rows = [(f"a\n\nb {n}", f"c\r\n{n}") for n in range(12)]
    path = write(tmp_path / "a.csv", "source,target\n" + "".join(f'"{a}","{b}"\n' for a, b in rows))
    assert loaded(path)[0] == sorted((a, b.replace("\r", "")) for a, b in rows)
    write(path, path.read_bytes() + b"1,2,3\n")
    refused(path, f"line {2 + 4 * 12}: 3 fields")


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t")])
def test_no_text_is_in_empty_fields_beyond_the_header_and_spaces_around_names(name, mark, tmp_path):
    """As spreadsheets end some rows."""
    rows = ["source ", " target"], *((f"{n}", n, *[""] * (n % 3)) for n in range(20))
    path = write(tmp_path / name, "".join(mark.join(map(str, row)) + "\n" for row in rows))
    assert loaded(path) == (sorted((f"{n}", f"{n}") for n in range(20)), "")
    path.write_text(path.read_text() + mark.join(["a", "b", "", "c"]))
    refused(path, "line 22: 4 fields")


@pytest.mark.parametrize("more", [{}, {"id": 7}, {"id": None}])
def test_objects_of_translations_are_pairs(more, tmp_path):
    rows = [{"translation": {"de": a, "en": b}, **more} for a, b in PAIRS]
    jsonl, parquet = write(tmp_path / "a.jsonl", as_jsonl(rows)), tmp_path / "a.parquet"
    write(parquet, as_parquet({name: [row[name] for row in rows] for name in rows[0]}))
    for path in (jsonl, parquet):
        assert loaded(path, source="en", target="de") == (sorted((b, a) for a, b in PAIRS), "")
        assert loaded(path, kind="pairs") == (sorted(PAIRS), "")
        refused(path, "has no column 'fr'", "['de', 'en']" if not more else "'de'", source="de", target="fr")
    jsonl.write_text('{"translation": null}\n' + jsonl.read_text())
    assert "dropped 1 of 21 rows" in loaded(jsonl, kind="pairs")[1]


def test_gaps_of_pandas_are_dropped_and_counted_and_its_labels_are_whole_numbers(tmp_path):
    rows = [{"text": text, "label": float(label)} for text, label in TEXTS]
    gaps = [{"text": "a", "label": None}, {"text": float("nan"), "label": 1.0}, {"text": "b"}, {"label": 1}, {}]
    jsonl = write(tmp_path / "a.jsonl", as_jsonl([*rows, *gaps]))
    found, said = loaded(jsonl)
    assert found == sorted(TEXTS)
    assert "dropped 5 of 35 rows, where text or label is empty: line 31, 32, 33, 34, 35" in said
    columns = {name: [row.get(name) for row in [*rows, gaps[0], gaps[2]]] for name in ("text", "label")}
    columns["label"][-1] = float("nan")
    found, said = loaded(write(tmp_path / "a.parquet", as_parquet(columns)))
    assert found == sorted(TEXTS)
    assert "dropped 2 of 32 rows" in said
    refused(write(tmp_path / "b.jsonl", json.dumps({"text": "a", "label": 0.5})), "line 1: 'label' is 0.5")


def test_running_text_keeps_its_lines(tmp_path):
    subtitles = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\nWell, {n}\x85\n\n" for n in range(9))
    for end in ("\n", "\r\n", "\r"):
        path = write(tmp_path / "a.txt", subtitles.replace("\n", end))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            splits = load(path)
        assert "".join(text for split in splits.values() for text in split["text"]) == subtitles
        assert any("has no line feed" in str(warning.message) for warning in caught) == (end == "\r")


@pytest.mark.parametrize("name", ["pairs.csv", "text.txt", "pairs.jsonl", "pairs.parquet"])
def test_what_is_no_file_is_refused(name, tmp_path):
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, "is a pipe, not a regular file")
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / f"train.{name.rpartition('.')[2]}")
    refused(folder, "train.", "is a pipe, not a regular file")
