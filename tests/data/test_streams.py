import datasets
import pytest
import torch
from helpers_tables import in_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer import InputError
from minitransformer.data import streams
from minitransformer.data.streams import StreamWindows, stream_rows
from minitransformer.tokenization import (
    end_of_text_id,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_wordpiece_tokenizer,
)

TEXTS = ["To be, or not to be:\n\n  that is the question.\t \n", "", "Words, words, words.   émigré 猫"]
TOKENIZERS = {
    "character": train_character_tokenizer([text.replace("é", "") for text in TEXTS]),
    "bpe": train_bpe_tokenizer(TEXTS, 60),
    "byte-bpe": train_byte_bpe_tokenizer(TEXTS, 300),
}
cuts = st.lists(st.integers(0, 60), max_size=6)


def stream(text, tokenizer):
    return stream_rows(datasets.Dataset.from_dict({"text": [text]}), tokenizer).ids.tolist()


@settings(max_examples=30)
@given(kind=st.sampled_from(list(TOKENIZERS)), piece=st.sampled_from([1, 5, 1000]), cuts=cuts)
def test_a_stream_is_end_of_text_and_the_tokens_of_the_text_for_each_text_however_it_is_stored(kind, piece, cuts):
    tokenizer = TOKENIZERS[kind]
    expected, rows = [], []
    for text in TEXTS:
        expected += [end_of_text_id(tokenizer), *tokenizer.encode(text, add_special_tokens=False).ids]
        rows += [{"text": block, "continues": place > 0} for place, block in enumerate(in_blocks(text, cuts))]
    split = datasets.Dataset.from_list(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_PIECE", piece)
        stored = stream_rows(split, tokenizer)
    assert stored.ids.tolist() == expected
    assert stored.columns["unknown"].sum() == (0 if kind == "byte-bpe" else expected.count(1))
    assert stored.columns["bytes"].sum() == sum(len(text.encode()) for text in TEXTS)


@given(st.text(max_size=30))
def test_characters_are_looked_up_as_the_tokenizer_itself_would(text):
    tokenizer = TOKENIZERS["character"]
    assert stream(text, tokenizer) == [3, *tokenizer.encode(text, add_special_tokens=False).ids]


def test_a_tokenizer_of_characters_that_normalises_is_obeyed():
    changed = train_character_tokenizer(["ab"])
    changed.normalizer = train_wordpiece_tokenizer(["a b c"], 40).normalizer
    assert stream("A", changed) == [3, *changed.encode("a", add_special_tokens=False).ids]


@settings(max_examples=60, derandomize=True, database=None)
@given(length=st.integers(2, 60), context=st.integers(1, 12), batch_size=st.integers(1, 5), epoch=st.integers(0, 9))
def test_an_epoch_predicts_every_token_once_but_for_the_ends(length, context, batch_size, epoch):
    if length <= context:
        return
    windows = StreamWindows(torch.arange(length), context, batch_size=batch_size, seed=3)
    batches = windows.epoch(epoch)
    assert list(batches) == list(windows.epoch(epoch))
    predicted = [windows.batch(rows)["ids"][:, 1:] for rows in batches]
    tokens = torch.cat([p.flatten() for p in predicted])
    assert len(tokens.unique()) == len(tokens)
    # Lost are an offset and an end of less than a window each, and what fills no batch.
    assert len(tokens) > length - 1 - 2 * context - (batch_size - 1) * context
    assert all(len(rows) == batch_size for rows in batches) or len(batches) == 1


def test_windows_are_the_stream_as_it_stands_and_change_with_the_epoch():
    windows = StreamWindows(torch.arange(1000, dtype=torch.int32), 7, batch_size=4, seed=0)
    first = windows.batch(windows.epoch(0)[0])["ids"]
    assert first.dtype == torch.int64
    assert (first.diff(dim=1) == 1).all()
    starts = [{row for rows in windows.epoch(number) for row in rows} for number in range(4)]
    assert len({min(s) for s in starts}) > 1
    assert windows.epoch(0)[:] != StreamWindows(windows.ids, 7, batch_size=4, seed=1).epoch(0)[:]


def test_a_text_shorter_than_one_window_is_refused():
    with pytest.raises(
        InputError, match=r"a text of 8 tokens is shorter than one context of 8 .* a context of 7 at most"
    ):
        StreamWindows(torch.arange(8), 8, batch_size=1, seed=0)
    assert StreamWindows(torch.arange(8), 7, batch_size=1, seed=0).epoch(5)[:] == [[0]]
