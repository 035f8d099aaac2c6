import pytest
import torch
from helpers_rows import MASK, PAD, SPECIALS, stored

from minitransformer.data.batching import token_batches
from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED, MaskVocabulary
from minitransformer.data.packing import NO_LABEL, next_sentence_rows, single_rows
from minitransformer.data.sentences import Document
from minitransformer.errors import InputError

LONG = [
    Document([[10 + (i * 40 + j) * 8 + k for k in range(3 + (i * j) % 5)] for j in range(40)], i) for i in range(100)
]


def masked_batches(**options):
    rows = stored([*single_rows(LONG[:5], 30, SPECIALS), *next_sentence_rows(LONG, 40, SPECIALS, seed=0)])
    size = 1 + int(rows.ids.max())
    vocabulary = MaskVocabulary(MASK, torch.arange(size).numpy() > MASK, torch.zeros(size, dtype=bool).numpy())
    return MaskedBatches(rows, vocabulary, pad_id=PAD, max_tokens=400, seed=0, **options)


def test_an_epoch_has_every_token_once_in_batches_within_the_limit_with_little_padding():
    data = masked_batches()
    batches = [(numbers, data.batch(numbers)) for numbers in data.epoch(0)]
    for numbers, batch in batches:
        assert batch["ids"].numel() <= 400
        assert ("sentence_labels" in batch) == (data.rows.columns["label"][numbers[0]] != NO_LABEL)
    real = sum(int(batch["valid"].sum()) for _, batch in batches)
    assert real == len(data.rows.ids)
    assert real > 0.9 * sum(batch["ids"].numel() for _, batch in batches)


def test_the_batches_of_both_kinds_are_those_of_each_in_an_order_of_their_own():
    data = masked_batches()
    count = len(data.rows)
    kinds = [
        [row for row, label in enumerate(data.rows.columns["label"].tolist()) if (label == NO_LABEL) is alone]
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
    count = len(data.rows)
    for numbers in data.epoch(1):
        batch = data.batch(numbers)
        original = torch.where(batch["targets"] == IGNORED, batch["ids"], batch["targets"])
        for place, number in enumerate(numbers):
            row = number % count
            length = int(data.rows.lengths[row])
            assert torch.equal(original[place, :length].int(), data.rows[row])
            assert not batch["valid"][place, length:].any()
            if "sentence_labels" in batch:
                assert batch["sentence_labels"][place] == data.rows.columns["label"][row]
                expected = torch.arange(length) >= data.rows.columns["second_start"][row]
                assert torch.equal(batch["segment_ids"][place, :length].bool(), expected)


def test_a_row_is_masked_differently_in_two_epochs_and_alike_in_one():
    data, again = masked_batches(), masked_batches()
    count = len(data.rows)
    numbers = [0, 1, 2]
    first, repeated = data.batch(numbers), again.batch(numbers)
    later = data.batch([number + count for number in numbers])
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    assert not torch.equal(first["targets"], later["targets"])


def test_no_rows_are_refused():
    data = masked_batches()
    with pytest.raises(InputError, match="no tokens to learn from"):
        MaskedBatches(stored([]), data.vocabulary, pad_id=PAD, max_tokens=9, seed=0)
