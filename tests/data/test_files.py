import json
import re
import tracemalloc
import warnings

import datasets
import pytest

from minitransformer.data import load, remembered
from minitransformer.errors import InputError

PAIRS = [(f"human {i}", f"iso {i}") for i in range(20)]


def rows_of(corpus):
    """All rows of a corpus, whichever split they are in."""
    return sorted(tuple(row.values()) for split in corpus.values() for row in split)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(path, names, rows):
    """A table in the format that the suffix of `path` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        datasets.Dataset.from_dict(dict(zip(names, zip(*rows, strict=True), strict=True))).to_parquet(path)
        return path
    if path.suffix == ".jsonl":
        return write(path, "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    comma = {".csv": ",", ".tsv": "\t"}[path.suffix]
    return write(path, "".join(comma.join(row) + "\n" for row in [names, *rows]))


def refused(path, *parts, **options):
    """That loading `path` is refused in one line that has all of `parts` in it."""
    with pytest.raises(InputError) as raised:
        load(path, **options)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


every_table = pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])


@every_table
def test_a_table_of_pairs_is_split_by_target(tmp_path, suffix):
    corpus = load(table(tmp_path / f"pairs{suffix}", ("source", "target"), PAIRS))
    assert corpus.num_rows == {"train": 16, "validation": 2, "test": 2}
    assert corpus["train"].column_names == ["source", "target"]
    assert rows_of(corpus) == sorted(PAIRS)


@every_table
def test_strings_stay_strings(tmp_path, suffix):
    odd = ["007", "NA", "null", "nan", "1e3", "True", "2011-05-19", " padded ", "-0", "ß→é"]
    rows = [(text, f"{text}.") for text in odd]
    assert rows_of(load(table(tmp_path / f"odd{suffix}", ("a", "b"), rows))) == sorted(rows)


@every_table
def test_text_and_label_are_split_by_text(tmp_path, suffix):
    rows = [(f"text {i}", str(i % 2)) for i in range(20)]
    corpus = load(table(tmp_path / f"reviews{suffix}", ("text", "label"), rows))
    assert corpus.num_rows == {"train": 16, "validation": 2, "test": 2}
    assert rows_of(corpus) == sorted(rows)


def test_the_file_of_the_talk_loads_as_it_is(tmp_path):
    lines = [",human,machine", *(f"{i},{human},{iso}" for i, (human, iso) in enumerate(PAIRS))]
    assert rows_of(load(write(tmp_path / "human-machine.csv", "\n".join(lines)))) == sorted(PAIRS)


@pytest.mark.parametrize("index", ["index", "Unnamed: 0", "__index_level_0__", "id"])
def test_an_index_is_not_taken_for_a_column(tmp_path, index):
    rows = [(str(i), *pair) for i, pair in enumerate(PAIRS)]
    assert rows_of(load(table(tmp_path / "a.csv", (index, "x", "y"), rows))) == sorted(PAIRS)


def test_columns_are_chosen_by_name(tmp_path):
    rows = [(iso, "c", human) for human, iso in PAIRS]
    path = table(tmp_path / "a.csv", ("iso", "comment", "human"), rows)
    assert rows_of(load(path, source="human", target="iso")) == sorted(PAIRS)


def test_a_format_column_is_kept(tmp_path):
    rows = [(human, iso, "long") for human, iso in PAIRS]
    corpus = load(table(tmp_path / "a.csv", ("human", "iso", "format"), rows))
    assert set(corpus["train"].column_names) == {"source", "target", "format"}
    assert set(corpus["test"]["format"]) == {"long"}


def test_the_last_tenth_of_a_text_is_validation(tmp_path):
    """Cut by characters wherever that is; the two parts together are the file."""
    text = "\n first\x0c line\u2028\n\n" + "and more é\n" * 9 + "\n"
    corpus = load(write(tmp_path / "a.txt", text))
    assert corpus["train"]["text"][:] == [text[: int(0.9 * len(text))]]
    assert corpus["validation"]["text"][:] == [text[int(0.9 * len(text)) :]]
    assert load(tmp_path / "a")["train"]["text"][:] == corpus["train"]["text"][:]


def test_texts_in_a_table_are_documents_of_which_none_is_in_two_splits(tmp_path):
    corpus = load(write(tmp_path / "a.jsonl", "".join(f'{{"text": "document {i % 20}"}}\n' for i in range(40))))
    assert corpus.num_rows == {"train": 16, "validation": 2, "test": 2}
    assert len({text for split in corpus.values() for text in split["text"]}) == 20


def test_byte_order_mark_and_windows_line_ends_are_taken_away(tmp_path):
    text = "\ufeffsource,target\r\n" + "".join(f"{human},{iso}\r\n" for human, iso in PAIRS)
    assert rows_of(load(write(tmp_path / "a.csv", text))) == sorted(PAIRS)
    corpus = load(write(tmp_path / "a.txt", "\ufeff" + "line\r\n" * 10))
    assert "".join(row["text"] for split in corpus.values() for row in split) == "line\n" * 10


def test_csv_fields_may_be_quoted_and_tsv_quotes_are_characters(tmp_path):
    more = "".join(f"{human},{iso}\n" for human, iso in PAIRS)
    corpus = load(write(tmp_path / "a.csv", f'source,target\n"one, ""two""\nthree",1\n{more}'))
    assert ('one, "two"\nthree', "1") in rows_of(corpus)
    corpus = load(write(tmp_path / "a.tsv", 'source\ttarget\n"Hi," he said.\t1\n' + more.replace(",", "\t")))
    assert ('"Hi," he said.', "1") in rows_of(corpus)


@pytest.mark.parametrize("first", [("Hi.", "Hallo!"), ("Good day", "Tag"), ("1995", "x"), ("你好", "hi"), ("Oh!", "")])
def test_a_tsv_of_pairs_needs_no_header(tmp_path, first):
    path = table(tmp_path / "pairs.tsv", first, PAIRS)
    with pytest.warns(UserWarning, match=r"pairs\.tsv has no header: its first line, .*, is read as a pair"):
        corpus = load(path)
    assert rows_of(corpus) == sorted([first, *PAIRS] if first[1] else PAIRS)
    refused(path, "has no header", first[0], source="de", target="en")


def test_in_a_folder_the_training_file_says_whether_there_are_headers(tmp_path):
    table(tmp_path / "train.tsv", ("Good day", "Guten Tag"), PAIRS)
    table(tmp_path / "val.tsv", ("Danke", "Thanks"), PAIRS)
    with pytest.warns(UserWarning, match="has no header"):
        corpus = load(tmp_path)
    assert corpus["validation"][0] == {"source": "Danke", "target": "Thanks"}
    table(tmp_path / "train.tsv", ("en", "de"), PAIRS)
    assert len(load(tmp_path)["validation"]) == len(PAIRS)
    refused(table(tmp_path / "same.tsv", ("Taxi!", "Taxi!"), PAIRS), "a pair needs a header above it")


@pytest.mark.parametrize("names", [("en", "de"), ("human_date", "iso-date"), ("Source", "Target"), ("a.en", "a.de")])
def test_words_in_the_first_line_of_a_tsv_are_a_header(tmp_path, names):
    path = table(tmp_path / "pairs.tsv", names, PAIRS)
    assert rows_of(load(path)) == sorted(PAIRS)
    swapped = [(target, source) for source, target in PAIRS]
    assert rows_of(load(path, source=names[1], target=names[0])) == sorted(swapped)


def test_names_of_several_words_are_a_header_where_they_are_asked_for_and_in_a_csv(tmp_path):
    names = ("the date", "in short")
    assert rows_of(load(table(tmp_path / "a.tsv", names, PAIRS), source=names[0], target=names[1])) == sorted(PAIRS)
    assert rows_of(load(table(tmp_path / "a.csv", names, PAIRS))) == sorted(PAIRS)


@pytest.fixture(params=["in memory", "mapped"])
def aligned(request, tmp_path, tmp_path_factory, monkeypatch):
    """Files as small as these, and the same where they count as large ones."""
    if request.param == "mapped":
        monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path_factory.mktemp("cache")))
        monkeypatch.setattr(remembered, "LARGE", 0)
    for suffix, place in (("de", 0), ("en", 1)):
        write(tmp_path / f"train.{suffix}", "".join(pair[place] + "\n" for pair in PAIRS))
        write(tmp_path / f"val.{suffix}", "".join(pair[place] + "\n" for pair in PAIRS[:3]))
    return tmp_path


def test_line_aligned_files_are_a_pair(aligned):
    corpus = load(aligned / "train", source="de", target="en")
    assert corpus.num_rows == {"train": 16, "validation": 2, "test": 2}
    assert rows_of(corpus) == sorted(PAIRS)
    assert rows_of(load(aligned / "train", source="en", target="de")) == sorted((b, a) for a, b in PAIRS)


def test_a_folder_without_validation_says_which_path_splits_it(aligned):
    for suffix in ("de", "en"):
        (aligned / f"val.{suffix}").unlink()
    with pytest.raises(InputError, match="no file called validation or val or dev") as raised:
        load(aligned, source="de", target="en")
    path = re.search("give the path (.*) to have", str(raised.value))[1]
    assert load(path, source="de", target="en").num_rows == {"train": 16, "validation": 2, "test": 2}


def test_a_folder_of_line_aligned_files_keeps_its_splits(aligned):
    corpus = load(aligned, source="de", target="en")
    assert corpus.num_rows == {"train": 20, "validation": 3}
    assert tuple(corpus["validation"][2].values()) == PAIRS[2]


@pytest.mark.parametrize("validation", ["validation", "val", "dev"])
def test_a_folder_keeps_its_splits(tmp_path, validation):
    for stem, rows in (("train", PAIRS), (validation, PAIRS[:2]), ("test", PAIRS[:1])):
        table(tmp_path / f"{stem}.jsonl", ("source", "target"), rows)
    write(tmp_path / "README.md", "about")
    assert load(tmp_path).num_rows == {"train": 20, "validation": 2, "test": 1}


def test_rows_with_an_empty_side_are_dropped_with_a_warning(aligned):
    content = "source,target\n,a\n\nb, \n" + "".join(f"{human},{iso}\n" for human, iso in PAIRS)
    with pytest.warns(UserWarning, match=r"dropped 3 of 23 rows, where source or target is empty: line 2, 3, 4$"):
        assert rows_of(load(write(aligned / "a.csv", content))) == sorted(PAIRS)
    table(aligned / "b.jsonl", ("de", "en"), [*PAIRS, ("", "x"), ("x", "\t")])
    with pytest.warns(UserWarning, match=r"b.jsonl: dropped 2 of 22 rows, where de or en is empty: line 21, 22$"):
        assert rows_of(load(aligned / "b.jsonl", source="de", target="en")) == sorted(PAIRS)
    write(aligned / "train.en", "".join(f"{iso}\n" for _, iso in PAIRS[:19]) + "\n")
    with pytest.warns(UserWarning, match=r"train.de: dropped 1 of 20 rows.* line 20$"):
        assert rows_of(load(aligned / "train", source="de", target="en")) == sorted(PAIRS[:19])


def test_nothing_is_said_about_whole_files(aligned):
    with warnings.catch_warnings(action="error"):
        load(aligned, source="de", target="en")


def test_missing_and_empty_files_are_refused(tmp_path):
    refused(tmp_path / "none.csv", "none.csv", "no file or folder")
    refused(write(tmp_path / "a.csv", ""), "a.csv is empty")
    refused(write(tmp_path / "a.txt", "\n\n"), "a.txt is empty")
    refused(write(tmp_path / "b.csv", "source,target\n"), "b.csv", "no rows")
    refused(write(tmp_path / "c.csv", "source,target\na,\n"), "c.csv", "source or target is empty")
    datasets.Dataset.from_dict({"text": []}).to_parquet(tmp_path / "d.parquet")
    refused(tmp_path / "d.parquet", "d.parquet has no rows")


def test_a_wrong_column_is_answered_with_the_columns_there_are(tmp_path):
    path = table(tmp_path / "a.csv", ("one", "two", "three"), [("a", "b", "c")])
    refused(path, "header", "no column 'four'", "['one', 'two', 'three']", source="one", target="four")
    refused(path, "which columns of ['one', 'two', 'three']")
    refused(path, "give both", source="one")
    refused(path, "both 'one'", source="one", target="one")
    refused(write(tmp_path / "a.txt", "text"), "running text", source="one", target="two")
    refused(write(tmp_path / "b.csv", "a,a\n1,2\n"), "two columns have one name")


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", "\ufeffsource,target\nna\n".encode() + "naïve".encode("latin-1"))
    refused(path, f"a{suffix}, line 3: byte 0xef is not UTF-8")


def test_broken_tables_are_refused_with_the_line(tmp_path):
    refused(write(tmp_path / "a.csv", "x,y\n1,2\n1,2,3\n"), "line 3: 3 fields", "names 2 columns", "['1', '2', '3']")
    refused(write(tmp_path / "b.csv", 'x,y\n"1\n2",3\n1\n'), "line 4: 1 fields")
    refused(write(tmp_path / "c.csv", 'x,y\n1,2\n"1,2\n'), "line 3: not readable as CSV")
    refused(write(tmp_path / "a.jsonl", '{"x": "a"}\n{"x": \n'), "line 2: not readable as JSON")
    refused(write(tmp_path / "b.jsonl", '{"x": "a"}\n["a"]\n'), "line 2", "not a JSON object")
    refused(write(tmp_path / "c.jsonl", '{"x": "a", "y": 7}\n'), "line 1: 'y' is 7, which is not text")
    refused(write(tmp_path / "a.parquet", "text"), "not readable as Parquet")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_blank_lines_below_many_columns_take_no_room_for_each(suffix, tmp_path):
    names = ["source", "target", *(f"column {number}" for number in range(900))]
    path = table(tmp_path / f"a.{suffix}", names, [[f"{row}"] * len(names) for row in range(20)])
    with path.open("a") as file:
        file.write("\n" * 10_000)
    tracemalloc.start()
    with pytest.warns(UserWarning, match="dropped 10000 of 10020 rows"):
        corpus = load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows_of(corpus)) == 20
    assert most < 15_000_000  # 8 bytes for each field would be 72 MB


def test_a_json_line_that_lacks_a_key_is_dropped_and_numbers_are_labels(tmp_path):
    lines = [json.dumps({"text": f"text {i}", "label": i % 2}) for i in range(10)]
    path = write(tmp_path / "a.jsonl", "\n".join([*lines, '{"text": "unlabelled"}']))
    with pytest.warns(UserWarning, match="line 11"):
        assert rows_of(load(path)) == [(f"text {i}", str(i % 2)) for i in range(10)]


def test_unsupported_files_are_answered_with_the_supported_ones(tmp_path, aligned):
    refused(write(tmp_path / "a.xlsx", "x"), "cannot read", "a.xlsx", ".csv, .tsv, .jsonl, .parquet, .txt")
    refused(aligned / "train.de", "line-aligned", source="de", target="en")


def test_line_aligned_files_that_do_not_match_are_refused(aligned):
    for path in (aligned, aligned / "train"):
        there = "has train.de, train.en, but"
        refused(path, there, "no train.nl for target='nl': the suffixes there are de, en", source="de", target="nl")
        refused(path, there, "no train.fr for source='fr' and no train.nl for", source="fr", target="nl")
        refused(path, "train.de: source and target are both 'de'", source="de", target="de")
        refused(path, "train.de, train.en", "suffixes", "source=None and target=None")
        refused(path, "train.de, train.en", "suffixes", "target=None are not two of de, en", source="de")
    (aligned / "val.en").unlink()
    refused(aligned, "has val.de, but no val.en for target='en'", source="de", target="en")


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "de")])
def test_files_with_different_numbers_of_lines_are_refused_with_the_first_line_too_many(aligned, source, target):
    write(aligned / "train.en", "".join(iso + "\n" for _, iso in PAIRS) + "more\n\n\n")
    for path in (aligned, aligned / "train"):
        refused(path, "train.de has 20", "train.en has 23", source=source, target=target)
        refused(path, ": train.en has 3 more, from line 21, 'more', on;", source=source, target=target)


def test_incomplete_or_ambiguous_folders_are_refused(tmp_path):
    refused(tmp_path, "no file called train", "nothing")
    write(tmp_path / "train.txt", "a")
    refused(tmp_path, "no file called validation or val or dev", "it has train.txt")
    refused(tmp_path, f"give the path {tmp_path / 'train'} to have a tenth of train set apart")
    write(tmp_path / "val.csv", "x,y\n1,2\n")
    refused(tmp_path, "train has columns ['text']", "validation has ['source', 'target']")
    write(tmp_path / "val.txt", "a")
    refused(tmp_path, "val.csv, val.txt")
    write(tmp_path / "dev.txt", "a")
    refused(tmp_path, "dev.txt, val.csv, val.txt: keep one")
