from collections import Counter
from itertools import pairwise

import pytest
from helpers_rows import CLS, MASK, SEP, SPECIALS
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data.packing import (
    NO_LABEL,
    full_rows,
    next_sentence_rows,
    sentence_order_rows,
    single_rows,
)
from minitransformer.data.sentences import Document
from minitransformer.errors import InputError

BUILDERS = {
    "single": single_rows,
    "full": full_rows,
    "nsp": lambda *args: next_sentence_rows(*args, seed=0),
    "sop": lambda *args: sentence_order_rows(*args, seed=0),
}


def documents_of(sizes):
    """Documents with so many tokens in each sentence, numbered through from 10 on."""
    token, documents = 10, []
    for number, document in enumerate(sizes):
        documents.append(Document([], number))
        for size in document:
            documents[-1].sentences.append(list(range(token, token + size)))
            token += size
    return documents


sized = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=2, max_size=6).map(documents_of)


def unpacked(rows):
    """(first segment, second segment, label) of each row, without the tokens around them."""
    parts = []
    for ids, second, label in rows:
        assert (ids[0], ids[second - 1], ids[-1]) == (CLS, SEP, SEP)
        parts.append((ids[1 : second - 1], ids[second:-1], label))
    return parts


@pytest.mark.parametrize("kind", BUILDERS)
@given(documents=sized, max_length=st.integers(5, 24))
def test_no_row_is_longer_than_the_limit_and_every_row_has_text(kind, documents, max_length):
    rows = list(BUILDERS[kind](documents, max_length, SPECIALS))
    assert all(3 <= len(ids) <= max_length for ids, _, _ in rows)
    for first, second, label in unpacked(rows):
        assert first
        assert bool(second) == (label != NO_LABEL)


@given(sized, st.integers(5, 24))
def test_single_and_full_rows_hold_every_token_once_in_order(documents, max_length):
    tokens = [token for document in documents for sentence in document.sentences for token in sentence]
    for build in (single_rows, full_rows):
        rows = build(documents, max_length, SPECIALS)
        assert [token for ids, _, _ in rows for token in ids if token > MASK] == tokens


@given(sized, st.integers(12, 24))
def test_full_rows_break_between_sentences_and_are_as_full_as_that_allows(documents, max_length):
    starts = {sentence[0] for document in documents for sentence in document.sentences}
    parts = unpacked(full_rows(documents, max_length, SPECIALS))
    ids = [first for first, _, _ in parts]
    assert all(row[0] in starts and row[-1] != SEP for row in ids)
    sizes = {sentence[0]: len(sentence) for document in documents for sentence in document.sentences}
    first_of_documents = {document.sentences[0][0] for document in documents}
    for row, after in pairwise(ids):
        needed = sizes[after[0]] + (after[0] in first_of_documents)
        assert len(row) + needed > max_length - 2
    assert all(row[place + 1] in first_of_documents for row in ids for place, token in enumerate(row) if token == SEP)


def test_a_text_of_its_own_is_a_row_and_one_too_long_is_cut_into_several():
    assert unpacked(single_rows([Document([[7, 8], [9]], 0), Document([[11, 12, 13, 14, 15]], 1)], 5, SPECIALS)) == [
        ([7, 8, 9], [], NO_LABEL),
        ([11, 12, 13], [], NO_LABEL),
        ([14, 15], [], NO_LABEL),
    ]


LONG = documents_of([[3 + (i * j) % 5 for j in range(40)] for i in range(100)])


def test_half_of_the_next_sentence_pairs_follow_and_the_others_are_of_two_documents():
    document_of = {token: number for number, document in enumerate(LONG) for s in document.sentences for token in s}
    pairs = [pair for pair in unpacked(next_sentence_rows(LONG, 40, SPECIALS, seed=0)) if pair[2] != NO_LABEL]
    for first, second, label in pairs:
        documents = {document_of[first[0]], document_of[second[0]]}
        assert (len(documents) == 1) == (label == 0)
        assert len({document_of[token] for token in first}) == len({document_of[token] for token in second}) == 1
        assert label == 1 or second[0] > first[-1]
    labels = Counter(label for _, _, label in pairs)
    assert len(pairs) > 500
    assert abs(labels[0] / len(pairs) - 0.5) < 3 * 0.5 / len(pairs) ** 0.5


def parts(texts):
    """Documents of 20 sentences, so many of each text, and which text and document a token is of."""
    numbers = [text for text, count in enumerate(texts) for _ in range(count)]
    plain = documents_of([[4] * 20] * len(numbers))
    places = {token: place for place, document in enumerate(plain) for s in document.sentences for token in s}
    documents = [Document(part.sentences, text) for part, text in zip(plain, numbers, strict=True)]
    return documents, numbers, places


@pytest.mark.parametrize("texts", [(1, 30, 2), (9, 9), (1, 1, 30)])
def test_wrong_next_sentences_are_of_another_text(texts):
    documents, numbers, places = parts(texts)
    pairs = [pair for pair in unpacked(next_sentence_rows(documents, 20, SPECIALS, seed=0)) if pair[2] == 1]
    of_texts = [(numbers[places[first[0]]], numbers[places[second[0]]]) for first, second, _ in pairs]
    assert len(pairs) > 30
    assert all(one != other for one, other in of_texts)
    assert {other for _, other in of_texts} == {*range(len(texts))}


def test_wrong_next_sentences_of_a_single_text_are_neither_of_the_same_part_nor_of_the_one_after():
    documents, _, places = parts([12])
    pairs = [pair for pair in unpacked(next_sentence_rows(documents, 40, SPECIALS, seed=0)) if pair[2] == 1]
    apart = {places[second[0]] - places[first[0]] for first, second, _ in pairs}
    assert apart >= {-2, -1, 2, 3}
    assert not apart & {0, 1}


def test_where_no_document_is_left_to_take_a_wrong_sentence_from_the_next_ones_follow():
    documents, _, places = parts([2])
    pairs = [pair for pair in unpacked(next_sentence_rows(documents, 40, SPECIALS, seed=0)) if pair[2] != NO_LABEL]
    assert {(places[first[0]], places[second[0]], label) for first, second, label in pairs} == {
        (0, 0, 0),
        (1, 1, 0),
        (1, 0, 1),
    }


def test_what_a_random_sentence_replaced_is_used_in_the_next_pair():
    rows = unpacked(next_sentence_rows(documents_of([[4] * 30, [4] * 30]), 200, SPECIALS, seed=3))
    firsts = [token for first, _, label in rows for token in first]
    assert len(firsts) == len(set(firsts))


def test_sentence_order_pairs_are_swapped_or_not_and_both_halves_are_neighbours():
    pairs = [pair for pair in unpacked(sentence_order_rows(LONG, 40, SPECIALS, seed=0)) if pair[2] != NO_LABEL]
    for first, second, label in pairs:
        assert (first[0] > second[0]) == (label == 1)
        gap = min(abs(first[0] - second[-1]), abs(second[0] - first[-1]))
        assert gap <= 10  # what was cut off to fit
    assert {label for _, _, label in pairs} == {0, 1}


@pytest.mark.parametrize("build", [next_sentence_rows, sentence_order_rows])
def test_pairs_depend_on_the_seed_alone(build):
    first, again, other = (list(build(LONG[:9], 40, SPECIALS, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_one_document_gives_no_next_sentence_pairs_and_a_short_limit_no_rows():
    with pytest.raises(InputError, match="at least two documents; there are 1"):
        list(next_sentence_rows(LONG[:1], 40, SPECIALS, seed=0))
    for build in BUILDERS.values():
        with pytest.raises(InputError, match="max_length=2 leaves no room"):
            list(build(LONG[:2], 2, SPECIALS))
