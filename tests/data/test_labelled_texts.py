"""Labelled texts of large data sets, which are read where they are asked for and whose tokens are mapped."""

import warnings

import datasets
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minitransformer.data import columns, remembered
from minitransformer.data.labelled_texts import MappedTexts, checked
from minitransformer.errors import InputError

SOME = {"text": ["a b", "b", "é a b a b a", "[SEP] b", "ab"] * 3, "label": ["x", "y", "10", "9", "x"] * 3}

texts_of_rows = st.sampled_from(["a b", "b", "é a b a b a", "[SEP] b", " ", "", None])
rows = st.lists(st.tuples(texts_of_rows, st.sampled_from(["x", "y", "10", "9", " ", None])), max_size=12)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path))
    monkeypatch.setattr(remembered, "LARGE", 0)
    monkeypatch.setattr(columns, "ROWS", 4)
    return tmp_path / "tokens"


def outcome(tables, declared=None):
    """All that there is to a corpus or to its refusal, and what is said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            corpus = checked(tables, declared, where="here")
            result = (
                corpus.names,
                {name: (list(split.texts), list(split.labels)) for name, split in corpus.splits.items()},
            )
        except InputError as error:
            corpus, result = None, str(error)
    return corpus, result, [str(warning.message) for warning in said]


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({"train": rows, "validation": rows}, optional={"test": rows}), st.booleans())
@example({"train": [("a", "x"), ("b", "y"), ("", "x")], "validation": [("b", "x"), ("a", None)]}, False)
@example({"train": [("a", "x"), ("b", "y")], "validation": [("b", "y")], "test": [("b", None)]}, True)
@example({"train": [("a", "x"), ("b", "y")], "validation": [("b", "x"), ("a", "9"), ("a", "10"), ("b", "9")]}, False)
def test_large_and_small_data_sets_give_what_lists_give(caches, splits, numbered):
    tables = {
        name: {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
        for name, rows in splits.items()
    }
    declared = None
    if numbered:  # as the hub has it
        declared = ["x", "y", "10"]
        numbers = {"x": 0, "y": 1, "10": 2, "9": 3, " ": -1, None: None}
        tables = {name: table | {"label": [*map(numbers.get, table["label"])]} for name, table in tables.items()}
    _, expected, said = outcome(tables, declared)
    as_data_sets = {name: datasets.Dataset.from_dict(table) for name, table in tables.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", str(caches))
        patch.setattr(columns, "ROWS", 3)
        small, *small_outcome = outcome(as_data_sets, declared)
        patch.setattr(remembered, "LARGE", 0)
        large, *large_outcome = outcome(as_data_sets, declared)
        assert small_outcome == large_outcome == [expected, said]
        if large is None:
            return
        for name, split in large.splits.items():
            assert isinstance(small.splits[name].texts, list)
            assert isinstance(split.texts, MappedTexts)


def test_mapped_texts_are_a_sequence_of_texts():
    texts = MappedTexts(datasets.Dataset.from_dict(SOME).select(range(5)))
    expected = SOME["text"][:5]
    assert list(texts) == expected
    assert (texts[1], texts[-1], texts[1:4], texts[3:9]) == (expected[1], expected[-1], expected[1:4], expected[3:])
    assert "ab" in texts
    with pytest.raises(IndexError):
        texts[5]


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_the_first_that_is_no_text_is_named(large, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", large)
    table = {"text": [None, 0, 7], "label": ["x", "y", "x"]}
    for each in (table, datasets.Dataset.from_dict(table)):
        assert outcome({"train": each})[1] == "here: '0' in train is not text"
