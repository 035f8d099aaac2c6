"""Documents packed into windows, each predicted as if it were alone."""

import datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data.packed_documents import PackedDocuments, are_short, document_lengths
from minitransformer.data.streams import stream_rows
from minitransformer.tokenization import end_of_text_id, train_character_tokenizer

TOKENIZER = train_character_tokenizer(["abcde"])
END = end_of_text_id(TOKENIZER)
CONTEXT = 6


def rows_of(texts):
    return stream_rows(datasets.Dataset.from_dict({"text": texts}), TOKENIZER)


def whole(text):
    return [END, *TOKENIZER.encode(text, add_special_tokens=False).ids, END]


def documents_in(batch):
    """The ids of each document of a batch, and how many padding tokens each row has."""
    found, padding = {}, 0
    for ids, numbers in zip(batch["ids"].tolist(), batch["document_ids"].tolist(), strict=True):
        assert [n for n in numbers if n >= 0] == sorted(n for n in numbers if n >= 0)
        for token, number in zip(ids, numbers, strict=True):
            if number >= 0:
                found.setdefault(number, []).append(token)
            padding += number < 0
    return list(found.values()), padding


@settings(max_examples=50)
@given(st.lists(st.text("abcde", max_size=20), min_size=1, max_size=12), st.integers(1, 4))
def test_every_document_is_read_once_whole_or_in_parts_that_share_a_token(texts, batch_size):
    packed = PackedDocuments(rows_of(texts), CONTEXT, batch_size=batch_size, seed=0)
    expected = [
        ids[start : start + CONTEXT + 1] for ids in map(whole, texts) for start in range(0, len(ids) - 1, CONTEXT)
    ]
    read = [part for numbers in packed.in_order(batch_size) for part in documents_in(packed.batch(numbers))[0]]
    assert read == expected
    assert packed.targets == sum(len(whole(text)) - 1 for text in texts)
    batches = [packed.batch(numbers) for numbers in packed.epoch(3)]
    assert all(len(batch["ids"]) == batch_size for batch in batches) or len(batches) == 1
    parts = [tuple(part) for batch in batches for part in documents_in(batch)[0]]
    assert all(parts.count(part) <= [tuple(p) for p in expected].count(part) for part in parts)


def test_windows_are_filled_and_another_epoch_has_another_order():
    packed = PackedDocuments(rows_of(["ab", "c", "d", "abcde", "e", "a"]), CONTEXT, batch_size=1, seed=0)
    parts, padding = documents_in(packed.batch(packed.in_order(9)[0]))
    assert (len(parts), padding) == (6, 4 * 7 - 4 - 3 - 3 - 7 - 3 - 3)
    orders = [[list(numbers) for numbers in packed.epoch(number)] for number in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_documents_are_short_if_nine_in_ten_of_several_fit():
    def short(*texts):
        return are_short(document_lengths(rows_of(list(texts))), CONTEXT)

    assert short(*["abcde"] * 9, "abcde" * 9)
    assert not short(*["abcde"] * 8, "abcde" * 9)
    assert not short("abc")
