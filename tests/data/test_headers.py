"""Whether a first line is a header, and which columns are read: the same for every format and every kind."""

import helpers_tables
import pytest
from helpers_tables import LABELLED, PAIRS, refused, rows_of, split_rows, write_rows

from minitransformer.data import load

HEADERLESS, GUESSED = "has no header: its first line", "is taken for a header"


def loaded(path, **options):
    """The rows, sorted, and what is said about the first line."""
    rows, said = helpers_tables.loaded(path, **options)
    return rows, [text for text in (HEADERLESS, GUESSED) if text in said]


def flipped(rows):
    return [row[::-1] for row in rows]


both = pytest.mark.parametrize("suffix", [".csv", ".tsv"])


@both
@pytest.mark.parametrize(
    ("first", "options", "said"),
    [
        (("source", "target"), {}, []),
        (("target", "source"), {}, []),
        (("de", "en"), {"source": "de", "target": "en"}, []),
        (("the date", "in short"), {"source": "the date", "target": "in short"}, []),
        (("de", "en"), {}, [GUESSED]),
        (("source", "targeI"), {"kind": "pairs"}, [GUESSED]),
        (("human_date", "iso-date"), {}, [GUESSED]),
        (("Source", "a.de"), {}, [GUESSED]),
    ],
)
def test_a_first_line_of_names_is_a_header_and_a_guess_is_said(suffix, first, options, said, tmp_path):
    rows = flipped(PAIRS) if first[0] == "target" else PAIRS
    path = write_rows(tmp_path / f"a{suffix}", first, *rows)
    assert loaded(path, **options) == (sorted(PAIRS), said)
    if not options and said:  # columns are not only guessed: they can be named, in another order too
        assert loaded(path, source=first[1], target=first[0]) == (sorted(flipped(PAIRS)), [])


@both
@pytest.mark.parametrize(
    "first", [("Hi.", "Hallo!"), ("Good day", "Tag"), ("1995", "x"), ("你好", "hi"), ("iso", "iso"), ("hi", "iso 3")]
)
@pytest.mark.parametrize("kind", [None, "pairs"])
def test_no_first_pair_is_lost_without_a_word(suffix, first, kind, tmp_path):
    path = write_rows(tmp_path / f"a{suffix}", first, *PAIRS)
    assert loaded(path, kind=kind) == (sorted([first, *PAIRS]), [HEADERLESS])
    refused(path, "has no header", first[0], source="de", target="en")


@both
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        (("text", "label"), {}, []),
        (("sentence", "label"), {}, []),
        (("utterance", "label"), {"kind": "labelled"}, []),
        (("utterance", "mood"), {"text": "utterance", "label": "mood"}, []),
        (("utterance", "mood"), {"label": "mood"}, []),
        (None, {"kind": "labelled"}, [HEADERLESS]),
    ],
)
def test_texts_and_labels_are_read_by_the_same_rules(suffix, flip, header, options, said, tmp_path):
    rows = [*([header] if header else []), *LABELLED]
    path = write_rows(tmp_path / f"a{suffix}", *(flipped(rows) if flip else rows))
    assert loaded(path, **options) == (sorted(LABELLED), said)


@both
def test_one_word_texts_and_their_labels_are_rows(suffix, tmp_path):
    """ "bad" occurs again below, so it is a label and not the name of one."""
    rows = [("awful", "bad"), *LABELLED]
    path = write_rows(tmp_path / f"a{suffix}", *rows)
    assert loaded(path, kind="labelled") == (sorted(rows), [HEADERLESS])
    rows = [("a", "b"), *((f"{n}", f"{n}") for n in range(12)), ("a", "c"), ("d", "b")]
    path = write_rows(tmp_path / f"b{suffix}", *rows)
    refused(path, "has no header, and both columns have 14 different entries: add a header", kind="labelled")


@pytest.mark.parametrize("index", ["", "index", "id", "idx", "Unnamed: 0", "__index_level_0__"])
@both
def test_an_index_is_no_column_and_names_without_numbers_below_are_a_guess(suffix, index, tmp_path):
    """The file of the talk has a column without a name."""
    numbered = [(index, "x", "y"), *((str(i), *pair) for i, pair in enumerate(PAIRS))]
    assert loaded(write_rows(tmp_path / f"a{suffix}", *numbered)) == (sorted(PAIRS), [])
    worded = [(index, "x", "y"), *((f"no {i}", *pair) for i, pair in enumerate(PAIRS))]
    assert loaded(write_rows(tmp_path / f"b{suffix}", *worded)) == (sorted(PAIRS), [GUESSED])


def test_a_format_column_is_kept(tmp_path):
    rows = [("human", "iso", "format"), *((*pair, "long") for pair in PAIRS)]
    corpus = load(write_rows(tmp_path / "a.csv", *rows))
    assert corpus["train"].column_names == ["source", "target", "format"]
    assert rows_of(corpus) == sorted((*pair, "long") for pair in PAIRS)


def test_columns_are_chosen_by_name(tmp_path):
    path = write_rows(tmp_path / "a.csv", ("iso", "text", "human"), *((iso, "c", human) for human, iso in PAIRS))
    assert loaded(path, source="human", target="iso") == (sorted(PAIRS), [])
    assert loaded(path, text="human", kind="text") == ([(human,) for human, _ in sorted(PAIRS)], [])
    rows = [("n", "review", "mood", "source"), *((str(n), *row, "x") for n, row in enumerate(LABELLED))]
    path = write_rows(tmp_path / "b.tsv", *rows)
    assert loaded(path, text="review", label="mood") == (sorted(LABELLED), [])
    refused(path, "which columns of ['n', 'review', 'mood', 'source'] to read as text and label", kind="labelled")


def test_the_kind_asked_for_chooses_the_columns(tmp_path):
    path = write_rows(tmp_path / "a.csv", ("text", "label"), *LABELLED)
    assert split_rows(load(path)["train"]) == split_rows(load(path, kind="labelled")["train"])
    assert load(path, kind="text")["train"].column_names == ["text"]
    refused(path, "which columns of ['text', 'label'] to read as source and target", kind="pairs")
    path = write_rows(tmp_path / "b.tsv", ("source", "target"), *PAIRS)
    refused(path, "which columns of ['source', 'target'] to read as text", kind="text")
    one = write_rows(tmp_path / "c.csv", *((text,) for text, _ in LABELLED))
    assert loaded(one, kind="text") == (sorted((text,) for text, _ in LABELLED), [HEADERLESS])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "one", "target": "four"}, "a.csv has no column 'four'; it has ['one', 'two', 'three']"),
        ({}, "which columns of ['one', 'two', 'three']"),
        ({"source": "one"}, "give both"),
        ({"source": "one", "target": "one"}, "source and target are both 'one'"),
        ({"text": "one", "label": "one"}, "text and label are both 'one'"),
        ({"source": "one", "target": "two", "text": "three"}, "text= and label= are given too"),
        ({"source": "one", "target": "two", "kind": "text"}, "kind='text' is asked for"),
        ({"label": "one", "kind": "pairs"}, "kind='pairs' has no columns"),
    ],
)
def test_a_wrong_column_is_answered_with_the_columns_there_are(options, message, tmp_path):
    refused(write_rows(tmp_path / "a.csv", ("one", "two", "three"), ("a", "b", "c")), message, **options)
