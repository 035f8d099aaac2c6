"""Labels are numbers with names, and nothing is handed on that cannot be learned from."""

import re
import warnings

import pytest
from helpers_tables import LABELLED as ROWS
from helpers_tables import as_jsonl, refused, split_rows, write

from minitransformer.data import load


def table(path, rows):
    return write(path, as_jsonl({"text": text, "label": label} for text, label in rows))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((10, 9, -1), ["-1", "9", "10"]),
        (("10", "9", "x"), ["9", "10", "x"]),
        (("b", " b\t", "a "), ["a", "b"]),
        (("1", "9" * 5000, "1"), ["1", "9" * 5000]),
        ((True, False, True), ["False", "True"]),
    ],
)
def test_names_are_sorted_numbers_by_value_and_white_space_is_no_part_of_them(labels, names, tmp_path):
    path = table(tmp_path / "a.jsonl", [(f"text {i}", labels[i % 3]) for i in range(30)])
    assert load(path)["train"].features["label"].names == names


def test_a_folder_has_one_set_of_labels(tmp_path):
    table(tmp_path / "train.jsonl", [(text, str(n % 2)) for n, (text, _) in enumerate(ROWS)])
    table(tmp_path / "dev.jsonl", [("a", "0.0"), ("b", "1.0")])
    with pytest.warns(UserWarning, match=r"train.jsonl and the other splits: white space .* '0\.0' and '0'"):
        assert load(tmp_path)["validation"]["label"][:] == [0, 1]
    table(tmp_path / "train.jsonl", ROWS)
    table(tmp_path / "dev.jsonl", [("zero", "good"), ("three", "good")])
    table(tmp_path / "test.jsonl", [("one", "good"), ("two", "bad"), ("three", None)])
    with pytest.warns(UserWarning, match="dropped 1 of 3 rows, where text or label is empty: line 3"):
        corpus = load(tmp_path, kind="labelled")
    assert corpus["validation"]["label"][:] == [1, 1]
    assert split_rows(corpus["test"]) == [("one", "good"), ("two", "bad")]
    assert corpus["train"].features == corpus["validation"].features == corpus["test"].features


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(text, "good") for text, _ in ROWS], "all of the 24 training texts have the label 'good'"),
        ([(text, "") for text, _ in ROWS], "in each of the 30 rows, text or label is empty"),
        ([("", label) for _, label in ROWS], "in each of the 30 rows, text or label is empty"),
        ([(text, 0.5) for text, _ in ROWS], "line 1: 'label' is 0.5, which is not text"),
        ([(7, label) for _, label in ROWS], "line 1: 'text' is 7, which is not text"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(rows, message, tmp_path):
    refused(table(tmp_path / "a.jsonl", rows), message)


def test_labels_that_no_training_text_has_are_refused_and_counted(tmp_path):
    table(tmp_path / "train.jsonl", ROWS)
    table(tmp_path / "dev.jsonl", [("a", "fine"), ("b", "odd"), ("c", "fine"), ("d", "good")])
    refused(
        tmp_path,
        "3 of 4 validation texts have a label that no training text has: 'fine' (2), 'odd' (1)",
        "the labels are bad, good",
        kind="labelled",
    )


def test_texts_with_a_label_that_train_would_lack_stay_in_training(tmp_path):
    """The split is ours: so it does not make data unusable. No text is in two parts all the same."""
    rare = [(f"rare {n // 2}", f"rare {n}") for n in range(40)]
    corpus = load(table(tmp_path / "a.jsonl", [*ROWS, *rare]))
    assert sum(corpus.num_rows.values()) == 70
    assert {label for _, label in split_rows(corpus["train"])} == {"good", "bad", *(label for _, label in rare)}
    texts = [set(split["text"]) for split in corpus.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 50
    refused(table(tmp_path / "b.jsonl", rare), "none is left to test on: give a folder")


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (("good", "good ", "bad"), ["bad", "good"], "white space around labels is left out: 'good ' and 'good'$"),
        (("\tgood", "good ", "bad"), ["bad", "good"], "'\\\\tgood' and 'good', 'good ' and 'good'$"),
        (("good", "Good", "bad"), ["Good", "bad", "good"], "look alike are different labels: 'good' and 'Good'$"),
        (("e\u0301", "\xe9", "bad"), ["bad", "e\u0301", "\xe9"], "look alike .* 'é' and 'e\u0301'$"),
        (("good", "go\u200bod", "bad"), ["bad", "good", "go\u200bod"], "look alike"),
        (("a b", "a\xa0b", "bad"), ["a b", "a\xa0b", "bad"], "look alike"),
        (("1.0", "1", "x"), ["1", "1.0", "x"], "look alike are different labels: '1.0' and '1'$"),
        (("1.0", "1", "-0.00"), ["-0", "1"], ", or .0 behind whole numbers, is left out: '1.0' and '1'$"),
        ((1.0, 0.0, 1), ["0", "1"], None),
        ((True, "true", False), ["False", "True", "true"], "look alike"),
        (("nan", "1", "0"), ["0", "1", "nan"], r"look like a gap are labels: 'nan' \(20\); .* leave the field empty"),
        (("NA", "N/A", "#VALUE!"), ["#VALUE!", "N/A", "NA"], r"'#VALUE!' \(20\), 'N/A' \(20\), 'NA' \(20\);"),
        (("(none)", "-", "a?"), ["(none)", "-", "a?"], r"'\(none\)' \(20\), '-' \(20\);"),
        (("+", "-", "+-"), ["+", "+-", "-"], None),
        (("7", "07", "x"), ["07", "7", "x"], None),
    ],
)
def test_labels_that_are_one_or_look_like_one_are_said(labels, names, said, tmp_path):
    path = table(tmp_path / "a.jsonl", [(f"text {i}", labels[i % 3]) for i in range(60)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load(path)["train"].features["label"].names == names
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == (said is not None)
    assert said is None or re.search(said, messages[0])
