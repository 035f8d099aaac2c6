"""Which files of a path or a folder are read, and what is said where they do not fit together."""

import re

import pytest
from helpers_tables import LABELLED, PAIRS, as_jsonl, loaded, refused, split_rows, write, write_rows

from minitransformer.data import load


@pytest.fixture
def aligned(tmp_path):
    for suffix, place in (("de", 0), ("en", 1)):
        write(tmp_path / f"train.{suffix}", "".join(pair[place] + "\n" for pair in PAIRS))
        write(tmp_path / f"val.{suffix}", "".join(pair[place] + "\n" for pair in PAIRS[:3]))
    return tmp_path


def test_a_folder_of_line_aligned_files_keeps_its_splits(aligned):
    write(aligned / "val.en", "iso\n \niso 2\n")
    with pytest.warns(UserWarning, match=r"val.de: dropped 1 of 3 rows, where de or en is empty: line 2$"):
        corpus = load(aligned, source="de", target="en")
    assert corpus.num_rows == {"train": 20, "validation": 2}
    assert split_rows(corpus["validation"]) == [("human 0", "iso"), ("human 2", "iso 2")]


def test_line_aligned_files_that_do_not_match_are_refused(aligned):
    for path in (aligned, aligned / "train"):
        for options in ({"source": "de", "target": "nl"}, {"source": "de"}, {}):
            said = f"source={options.get('source')!r} and target={options.get('target')!r} are not two of de, en"
            refused(path, "cannot read train.de, train.en", said, **options)
        refused(path, "train.de: source and target are both 'de'", source="de", target="de")
    refused(aligned / "train.de", "line-aligned", source="de", target="en")
    (aligned / "val.en").unlink()
    refused(aligned, "cannot read val.de", "are not two of de", source="de", target="en")


def test_a_folder_without_validation_says_which_path_splits_it(aligned):
    for suffix in ("de", "en"):
        (aligned / f"val.{suffix}").unlink()
    path = None
    try:
        load(aligned, source="de", target="en")
    except ValueError as error:
        path = re.search("no file called validation or val or dev.*give the path (.*) to have", str(error))[1]
    assert load(path, source="de", target="en").num_rows == {"train": 16, "validation": 2, "test": 2}


@pytest.mark.parametrize("validation", ["validation", "val", "dev"])
def test_a_folder_keeps_its_splits_whatever_their_formats(tmp_path, validation):
    write(tmp_path / "train.jsonl", as_jsonl({"de": a, "en": b} for a, b in PAIRS))
    write_rows(tmp_path / f"{validation}.csv", ("n", "en", "de"), ("1", "iso", "human"))
    write(tmp_path / "test.de", "human\n")
    write(tmp_path / "test.en", "iso\n")
    write(tmp_path / "README.md", "about")
    corpus = load(tmp_path, source="de", target="en")
    assert split_rows(corpus["validation"]) == split_rows(corpus["test"]) == [("human", "iso")]
    assert len(corpus["train"]) == 20


def test_the_training_file_says_whether_there_are_headers_and_which_column_is_which(tmp_path):
    write_rows(tmp_path / "train.tsv", ("Good day", "Guten Tag"), *PAIRS)
    write_rows(tmp_path / "val.csv", ("Danke", "Thanks"), ("source", "target"))
    with pytest.warns(UserWarning, match="has no header"):
        corpus = load(tmp_path)
    assert split_rows(corpus["validation"]) == [("Danke", "Thanks"), ("source", "target")]
    for header in (("de", "en"), ("source", "target")):
        write_rows(tmp_path / "val.csv", header, ("Danke schön", "Thanks a lot"))
        assert f"val.csv: its first line, {[*header]}, is read as a row, as" in loaded(tmp_path)[1]
    write_rows(tmp_path / "train.tsv", ("source", "target"), *PAIRS)
    write_rows(tmp_path / "val.csv", ("target", "format", "source"), ("iso", "x", "human"))
    assert split_rows(load(tmp_path)["validation"]) == [("human", "iso")]
    write_rows(tmp_path / "val.csv", ("Danke", "Thanks"), ("ja", "yes"))
    refused(tmp_path, "val.csv has no column 'source' and 'target': it has ['Danke', 'Thanks']")
    write_rows(tmp_path / "train.tsv", *LABELLED)
    write_rows(tmp_path / "val.csv", ("a", "b", "c"), ("d", "e", "f"))
    refused(tmp_path, "val.csv has 3 columns, but", "train.tsv has 2, without a header")


@pytest.mark.parametrize(
    ("header", "test_header", "rows"),
    [
        (("label", "sentence"), ("label", "sentence"), [("", "x"), (" ", "y")]),
        (("label", "sentence"), ("index", "sentence"), [("0", "x"), ("1", "y")]),
        (("label", "sentence"), ("sentence",), [("x",), ("y",)]),
        (None, None, [("", "x"), ("", "y")]),
        (None, None, [("x",), ("y",)]),
    ],
)
def test_a_test_file_without_labels_is_left_out_and_no_other(header, test_header, rows, tmp_path):
    for name in ("train", "dev"):
        write_rows(tmp_path / f"{name}.tsv", *([header] if header else []), *(row[::-1] for row in LABELLED))
    write_rows(tmp_path / "test.tsv", *([test_header] if test_header else []), *rows)
    with pytest.warns(UserWarning, match=r"test\.tsv.*: test is left out"):
        assert sorted(load(tmp_path, kind="labelled")) == ["train", "validation"]
    (tmp_path / "test.tsv").replace(tmp_path / "dev.tsv")
    refused(tmp_path, "dev.tsv", kind="labelled")


def test_a_folder_of_one_pair_of_aligned_files_names_the_path_to_give(tmp_path):
    for suffix in ("de", "en"):
        write(tmp_path / f"films.de-en.{suffix}", "a\n")
    refused(
        tmp_path, f"give the path {tmp_path / 'films.de-en'} to have a tenth of it set apart", source="de", target="en"
    )


def test_missing_incomplete_and_ambiguous_folders_are_refused(tmp_path):
    refused(tmp_path / "none.csv", "none.csv", "no file or folder")
    refused(tmp_path, "no file called train", "nothing")
    write(tmp_path / "train.txt", "a")
    refused(tmp_path, "no file called validation or val or dev", "it has train.txt")
    refused(tmp_path, f"give the path {tmp_path / 'train'} to have a tenth of it set apart")
    write_rows(tmp_path / "val.csv", ("source", "target"), ("1", "2"))
    refused(tmp_path, "val.csv is a table, but another split's file is running text")
    write(tmp_path / "val.txt", "a")
    refused(tmp_path, "val.csv, val.txt")
    write(tmp_path / "dev.txt", "a")
    refused(tmp_path, "dev.txt, val.csv, val.txt: keep one")


def test_files_of_a_folder_that_look_like_more_of_a_split_are_said_not_to_be_read(tmp_path):
    for name in ("train.tsv", "train-2.tsv", "val.tsv", "Test.csv", "test-2.zip"):
        write_rows(tmp_path / name, ("source", "target"), *PAIRS)
    write(tmp_path / "README.txt", "about")
    rows, said = loaded(tmp_path)
    assert len(rows) == 2 * len(PAIRS)
    assert f"{tmp_path}: not read: Test.csv, test-2.zip, train-2.tsv" in said


def test_running_text_has_no_columns(tmp_path):
    path = write(tmp_path / "a.txt", "some text of words")
    refused(path, "a.txt is running text: it has no columns 'one' and 'two'", source="one", target="two")
    refused(path, "no columns 'source' and 'target'; a table in", "or a first line such as sep=;", kind="pairs")
    refused(path, "it has no columns 'text' and 'label'", kind="labelled")
