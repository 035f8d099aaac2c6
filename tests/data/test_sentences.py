from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data.batching import token_batches
from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED, MaskVocabulary
from minitransformer.data.sentences import (
    NO_LABEL,
    PartOfText,
    encode_documents,
    full_rows,
    join_rows,
    next_sentence_rows,
    sentence_order_rows,
    sentences,
    single_rows,
)
from minitransformer.errors import InputError
from minitransformer.tokenization import MaskedSpecials, train_roberta_tokenizer, train_wordpiece_tokenizer

PAD, CLS, SEP, MASK = 0, 2, 3, 4
SPECIALS = MaskedSpecials(PAD, CLS, SEP, MASK, "[MASK]")
BUILDERS = {
    "single": single_rows,
    "full": full_rows,
    "nsp": lambda *args: next_sentence_rows(*args, seed=0),
    "sop": lambda *args: sentence_order_rows(*args, seed=0),
}


def documents_of(sizes):
    """Documents with so many tokens in each sentence, numbered through from 10 on."""
    token, documents = 10, []
    for document in sizes:
        documents.append([])
        for size in document:
            documents[-1].append(list(range(token, token + size)))
            token += size
    return documents


sized = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=2, max_size=6).map(documents_of)


def unpacked(rows):
    """(first segment, second segment, label) of each row, without the tokens around them."""
    parts = []
    for row, (start, end) in enumerate(pairwise(rows.offsets.tolist())):
        ids, second = rows.ids[start:end].tolist(), int(rows.second_starts[row])
        assert ids[0] == CLS
        assert ids[second - 1] == SEP
        assert ids[-1] == SEP
        parts.append((ids[1 : second - 1], ids[second:-1], int(rows.labels[row])))
    return parts


def test_sentences_end_at_stops_before_white_space_and_at_blank_lines():
    text = 'He said "Stop!" Then 3.5 miles... on\nand on? Yes\n\nA title\n \nEnd'
    assert sentences(text) == ['He said "Stop!"', "Then 3.5 miles...", "on\nand on?", "Yes", "A title", "End"]
    assert sentences("日本。本当？はい") == ["日本。", "本当？", "はい"]
    assert sentences(" \n\n ") == []


@given(st.text(alphabet="ab .!?\n\"'"))
def test_nothing_but_white_space_is_lost_between_sentences(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
    assert all(part == part.strip() != "" for part in sentences(text))


@pytest.mark.parametrize("kind", BUILDERS)
@given(documents=sized, max_length=st.integers(5, 24))
def test_no_row_is_longer_than_the_limit_and_every_row_has_text(kind, documents, max_length):
    rows = BUILDERS[kind](documents, max_length, SPECIALS)
    assert rows.lengths.max() <= max_length
    assert rows.lengths.min() >= 3
    assert len(rows.labels) == len(rows.second_starts) == len(rows.offsets) - 1
    for first, second, label in unpacked(rows):
        assert first
        assert bool(second) == (label != NO_LABEL)


@given(sized, st.integers(5, 24))
def test_single_and_full_rows_hold_every_token_once_in_order(documents, max_length):
    tokens = [token for document in documents for sentence in document for token in sentence]
    for build in (single_rows, full_rows):
        rows = build(documents, max_length, SPECIALS)
        assert [token for token in rows.ids.tolist() if token > MASK] == tokens


@given(sized, st.integers(12, 24))
def test_full_rows_break_between_sentences_and_are_as_full_as_that_allows(documents, max_length):
    starts = {sentence[0] for document in documents for sentence in document}
    parts = unpacked(full_rows(documents, max_length, SPECIALS))
    ids = [first for first, _, _ in parts]
    assert all(row[0] in starts and row[-1] != SEP for row in ids)
    sizes = {sentence[0]: len(sentence) for document in documents for sentence in document}
    first_of_documents = {document[0][0] for document in documents}
    for row, after in pairwise(ids):
        needed = sizes[after[0]] + (after[0] in first_of_documents)
        assert len(row) + needed > max_length - 2
    assert all(row[place + 1] in first_of_documents for row in ids for place, token in enumerate(row) if token == SEP)


def test_a_text_of_its_own_is_a_row_and_one_too_long_is_cut_into_several():
    assert unpacked(single_rows([[[7, 8], [9]], [[11, 12, 13, 14, 15]]], 5, SPECIALS)) == [
        ([7, 8, 9], [], NO_LABEL),
        ([11, 12, 13], [], NO_LABEL),
        ([14, 15], [], NO_LABEL),
    ]


LONG = documents_of([[3 + (i * j) % 5 for j in range(40)] for i in range(100)])


def test_half_of_the_next_sentence_pairs_follow_and_the_others_are_of_two_documents():
    document_of = {token: number for number, document in enumerate(LONG) for s in document for token in s}
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
    places = {token: place for place, document in enumerate(plain) for s in document for token in s}
    return [PartOfText(*part) for part in zip(plain, numbers, strict=True)], numbers, places


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


def test_encoded_documents_know_their_text():
    tokenizer = train_wordpiece_tokenizer(["a b c d e"], 30)
    documents = encode_documents([["a"] * 5, [], ["b"], ["c"] * 4], tokenizer, longest=2, most=3)
    assert [document.text for document in documents] == [0, 0, 2, 3, 3]


def test_what_a_random_sentence_replaced_is_used_in_the_next_pair():
    rows = unpacked(next_sentence_rows(documents_of([[4] * 30, [4] * 30]), 200, SPECIALS, seed=3))
    firsts = [token for first, _, label in rows for token in first]
    assert len(firsts) == len(set(firsts))


def test_half_of_the_sentence_order_pairs_are_swapped_and_both_halves_are_neighbours():
    pairs = [pair for pair in unpacked(sentence_order_rows(LONG, 40, SPECIALS, seed=0)) if pair[2] != NO_LABEL]
    for first, second, label in pairs:
        assert (first[0] > second[0]) == (label == 1)
        gap = min(abs(first[0] - second[-1]), abs(second[0] - first[-1]))
        assert gap <= 10  # what was cut off to fit
    labels = Counter(label for _, _, label in pairs)
    assert len(pairs) > 500
    assert abs(labels[0] / len(pairs) - 0.5) < 3 * 0.5 / len(pairs) ** 0.5


@pytest.mark.parametrize("build", [next_sentence_rows, sentence_order_rows])
def test_pairs_depend_on_the_seed_alone(build):
    first, again, other = (build(LONG[:9], 40, SPECIALS, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.labels[:20], other.labels[:20]) or not torch.equal(first.ids[:99], other.ids[:99])


def test_one_document_gives_no_next_sentence_pairs_and_a_short_limit_no_rows():
    with pytest.raises(InputError, match="two documents at least, of which there are 1"):
        next_sentence_rows(LONG[:1], 40, SPECIALS, seed=0)
    for build in BUILDERS.values():
        with pytest.raises(InputError, match="max_length=2 leaves no room"):
            build(LONG[:2], 2, SPECIALS)


def test_long_texts_and_long_sentences_are_divided():
    tokenizer = train_wordpiece_tokenizer(["a b c d e"], 30)
    documents = encode_documents([["a b c d e", "a"], ["b"] * 5, []], tokenizer, longest=2, most=3)
    assert [[tokenizer.decode(ids) for ids in document] for document in documents] == [
        ["a b", "c d", "e"],
        ["a"],
        ["b", "b", "b"],
        ["b", "b"],
    ]


def test_byte_level_sentences_keep_the_space_between_them():
    tokenizer = train_roberta_tokenizer(["one two. three"], 300)
    (document,) = encode_documents([["one two.", "three"]], tokenizer, longest=50)
    assert tokenizer.decode([token for ids in document for token in ids]) == "one two. three"


def masked_batches(**options):
    rows = join_rows([single_rows(LONG[:5], 30, SPECIALS), next_sentence_rows(LONG, 40, SPECIALS, seed=0)])
    size = 1 + int(rows.ids.max())
    vocabulary = MaskVocabulary(MASK, torch.arange(size).numpy() > MASK, torch.zeros(size, dtype=bool).numpy())
    return MaskedBatches(rows, vocabulary, pad_id=PAD, max_tokens=400, seed=0, **options)


def test_an_epoch_has_every_row_once_in_batches_of_one_kind_within_the_limit():
    data = masked_batches()
    count = len(data.rows.labels)
    for epoch in (0, 3):
        batches = data.epoch(epoch)
        assert sorted(number for batch in batches for number in batch) == list(
            range(epoch * count, (epoch + 1) * count)
        )
        for numbers in batches:
            batch = data.batch(numbers)
            assert batch["ids"].numel() <= 400
            assert len({int(data.rows.labels[number % count]) == NO_LABEL for number in numbers}) == 1
            assert ("sentence_labels" in batch) == (data.rows.labels[numbers[0] % count] != NO_LABEL)
    real = sum(int(data.batch(numbers)["valid"].sum()) for numbers in data.epoch(0))
    assert real == len(data.rows.ids)
    assert real > 0.9 * sum(data.batch(numbers)["ids"].numel() for numbers in data.epoch(0))


def test_the_batches_of_both_kinds_are_those_of_each_in_an_order_of_their_own():
    data = masked_batches()
    count = len(data.rows.labels)
    kinds = [
        [row for row, label in enumerate(data.rows.labels.tolist()) if (label == NO_LABEL) is alone]
        for alone in (True, False)
    ]
    for epoch in (0, 2):
        batches = [
            [rows[place] + epoch * count for place in batch]
            for rows in kinds
            for batch in token_batches(data.rows.lengths[rows], 400, seed=epoch)
        ]
        order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(epoch)).tolist()
        assert all(kinds)
        assert list(data.epoch(epoch)) == [batches[place] for place in order]
    assert list(data.in_order()) == [
        [rows[place] for place in batch]
        for rows in kinds
        for batch in token_batches(data.rows.lengths[rows], 400, seed=None)
    ]


def test_a_batch_holds_its_rows_their_segments_and_labels():
    data = masked_batches()
    count = len(data.rows.labels)
    for numbers in data.epoch(1):
        batch = data.batch(numbers)
        original = torch.where(batch["targets"] == IGNORED, batch["ids"], batch["targets"])
        for place, number in enumerate(numbers):
            row = number % count
            start, end = data.rows.offsets[row : row + 2].tolist()
            assert torch.equal(original[place, : end - start].int(), data.rows.ids[start:end])
            assert not batch["valid"][place, end - start :].any()
            if "sentence_labels" in batch:
                assert batch["sentence_labels"][place] == data.rows.labels[row]
                expected = torch.arange(end - start) >= data.rows.second_starts[row]
                assert torch.equal(batch["segment_ids"][place, : end - start].bool(), expected)


def test_a_row_is_masked_differently_in_two_epochs_and_alike_in_one():
    data, again = masked_batches(), masked_batches()
    count = len(data.rows.labels)
    numbers = [0, 1, 2]
    first, repeated = data.batch(numbers), again.batch(numbers)
    later = data.batch([number + count for number in numbers])
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    assert not torch.equal(first["targets"], later["targets"])


def test_batches_for_evaluation_are_always_the_same():
    data, again = masked_batches(masked=1.0, replaced=0.0), masked_batches(masked=1.0, replaced=0.0)
    assert list(data.in_order()) == list(again.in_order())
    batch = data.batch(data.in_order()[0])
    assert torch.equal(batch["ids"] == MASK, batch["targets"] != IGNORED)


def test_no_rows_are_refused():
    data = masked_batches()
    with pytest.raises(InputError, match="no tokens to learn from"):
        MaskedBatches(single_rows([], 9, SPECIALS), data.vocabulary, pad_id=PAD, max_tokens=9, seed=0)
