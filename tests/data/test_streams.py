import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer import InputError
from minitransformer.data import streams
from minitransformer.data.streams import StreamWindows, token_stream
from minitransformer.tokenization import (
    end_of_text_id,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
)

TEXTS = ["To be, or not to be:\n\n  that is the question.\t \n", "", "Words, words, words.   "]


@pytest.mark.parametrize(
    "train",
    [train_character_tokenizer, lambda t: train_bpe_tokenizer(t, 60), lambda t: train_byte_bpe_tokenizer(t, 300)],
)
@pytest.mark.parametrize("piece", [1, 5, 1000])
def test_a_stream_is_end_of_text_and_the_text_for_each_text_however_it_is_cut_to_encode_it(train, piece, monkeypatch):
    monkeypatch.setattr(streams, "_PIECE", piece)
    tokenizer = train(TEXTS)
    expected = []
    for text in TEXTS:
        expected += [end_of_text_id(tokenizer), *tokenizer.encode(text, add_special_tokens=False).ids]
    assert token_stream(TEXTS, tokenizer).tolist() == expected


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
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
