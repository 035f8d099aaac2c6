"""Labelled texts of large data sets, which are read where they are asked for and whose tokens are mapped."""

import warnings

import datasets
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minitransformer.data import columns, labels, remembered
from minitransformer.data.labelled_texts import LabelledTexts, MappedTexts, checked
from minitransformer.data.labels import LabelledData
from minitransformer.errors import InputError
from minitransformer.text_encoding import encode_texts
from minitransformer.tokenization import train_character_tokenizer, train_wordpiece_tokenizer

SOME = {"text": ["a b", "b", "é a b a b a", "[SEP] b", "ab"] * 3, "label": ["x", "y", "10", "9", "x"] * 3}
CHARACTERS, PIECES = train_character_tokenizer(SOME["text"]), train_wordpiece_tokenizer(SOME["text"], 40)

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


def mapped(**changed):
    return LabelledTexts(MappedTexts(datasets.Dataset.from_dict(SOME | changed)), range(15))


def in_memory():
    return LabelledTexts(SOME["text"], list(range(15)))


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


def same_batches(one, other):
    for seed, pool in ((None, None), (3, 1)):
        batches = one.batches(12, seed=seed, pool=pool)
        assert batches == other.batches(12, seed=seed, pool=pool)
        for numbers in batches:
            first, second = one.batch(numbers), other.batch(numbers)
            assert first.keys() == second.keys()
            assert all(torch.equal(first[name], second[name]) for name in first)
    assert (len(one), one.cut) == (len(other), other.cut)


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
            for tokenizer in (CHARACTERS, PIECES):
                same_batches(*(LabelledData(each, tokenizer, 5, 7) for each in (small.splits[name], split)))


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


def test_tokens_are_made_once_whatever_the_model_reads_of_a_text(cache, monkeypatch):
    first = LabelledData(mapped(), CHARACTERS, 5)
    assert first.cut == 6
    monkeypatch.setattr(labels, "_parts", lambda *_: pytest.fail("are made again"))
    same_batches(LabelledData(mapped(), CHARACTERS, 5), first)
    assert LabelledData(mapped(), CHARACTERS, 20).cut == 0
    assert int(LabelledData(mapped(), CHARACTERS, 20).lengths.max()) == 13
    assert len(list(cache.iterdir())) == 1


def test_the_file_is_that_of_these_texts_and_this_tokenizer(cache):
    for tokenizer in (CHARACTERS, PIECES):
        for split in (mapped(), mapped(text=["a"] * 15)):
            data = LabelledData(split, tokenizer, 9)
            same_batches(data, LabelledData(LabelledTexts(list(split.texts), range(15)), tokenizer, 9))
    assert len(list(cache.iterdir())) == 4


def test_a_tokenizer_that_pads_and_cuts_has_the_file_of_one_that_does_not(cache):
    padding = type(PIECES).from_str(PIECES.to_str())
    padding.enable_padding(length=50)
    padding.enable_truncation(3)
    same_batches(LabelledData(mapped(), padding, 9), LabelledData(mapped(), PIECES, 9))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("large", [False, True])
def test_a_large_vocabulary_has_four_bytes_a_token(large, cache, monkeypatch):
    split = mapped() if large else in_memory()
    assert LabelledData(split, PIECES, 9).ids.dtype == torch.int16
    monkeypatch.setattr(labels, "vocabulary_size", lambda tokenizer: 1 << 15)
    data = LabelledData(split, PIECES, 9)
    assert data.ids.dtype == torch.int32
    assert data.batch([2])["ids"].tolist() == encode_texts(SOME["text"][2:3], PIECES, 9)[0]
