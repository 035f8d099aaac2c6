"""The text of ids as it streams, against decoding them at once and the tokenizers library's own stream."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from tokenizers.implementations import ByteLevelBPETokenizer

from minitransformer.tokenization import (
    EOS,
    PAD,
    stream_text,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
)

SENTENCES = [
    "The houses, the hills and the hounds don't hurry.",
    "  Ein  Häuschen am\u00a0See:\r\n\n\tes heißt [EOS]… ",
    "नमस्ते, été e\u0301te\u0301 👩\u200d💻 日本語 שלום \u0301 \x00\x1f 1234567",
]
BYTES = train_byte_bpe_tokenizer(SENTENCES, 320)


@pytest.fixture(scope="module", params=["characters", "bpe", "byte bpe", "gpt2 style"])
def tokenizer(request):
    if request.param == "characters":
        return train_character_tokenizer(SENTENCES)
    if request.param == "bpe":
        return train_bpe_tokenizer(SENTENCES, 300)
    if request.param == "byte bpe":
        return train_byte_bpe_tokenizer(SENTENCES, 300)
    return gpt2_style()


def gpt2_style():
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(SENTENCES, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    return Tokenizer.from_str(tokenizer.to_str())


@given(st.data())
def test_streamed_pieces_are_together_the_decoded_text(tokenizer, data):
    # Ids at random: for bytes most are no text, cut off or wrong in every way.
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=30))
    pieces = list(stream_text(tokenizer, iter(ids)))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert "" not in pieces


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\ufffd")))
@example(SENTENCES[2])
def test_streamed_pieces_of_text_are_whole_characters_as_early_as_in_decode_stream(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    theirs = decoders.DecodeStream(skip_special_tokens=True)
    expected = [piece for token_id in ids if (piece := theirs.step(tokenizer, token_id))]
    assert list(stream_text(tokenizer, ids)) == expected


def test_a_special_token_inside_a_character_does_not_break_it():
    first, *rest = train_byte_bpe_tokenizer(["a"], 260).encode("日", add_special_tokens=False).ids
    ids = [first, BYTES.token_to_id(EOS), *rest, BYTES.token_to_id(PAD)]
    assert list(stream_text(BYTES, ids)) == ["日"] == [BYTES.decode(ids)]


def test_streaming_shows_a_token_before_it_asks_for_the_next(tokenizer):
    asked = []
    ids = tokenizer.encode("hills", add_special_tokens=False).ids
    stream = stream_text(tokenizer, (asked.append(i) or i for i in ids))
    assert next(stream) == tokenizer.decode(ids[:1])
    assert asked == ids[:1]


class CountingDecoder:
    def __init__(self, inner):
        self.inner, self.tokens = inner, 0

    def decode_chain(self, tokens):
        self.tokens += len(tokens)
        return [self.inner.decode(tokens)]


@pytest.mark.parametrize("text", ["word " * 100, "日本" * 100, "\ufffd" * 200, "a\ufffd" * 100])
def test_streaming_decodes_each_token_a_few_times_however_long_the_text(text):
    tokenizer = train_byte_bpe_tokenizer(["\ufffd"], 300)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    counting = CountingDecoder(tokenizer.decoder)
    tokenizer.decoder = decoders.Decoder.custom(counting)
    pieces = list(stream_text(tokenizer, ids))
    assert "".join(pieces) == text
    assert len(pieces) >= len(text) - 1
    assert len(ids) <= counting.tokens <= 7 * len(ids)


def words_with_marks(marks_first):
    """One whose decoder puts the spaces between words, and none before the first."""
    words = ["[EOS]", *("▁to ▁be ▁or s" if marks_first else "to be or ##s").split()]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}))
    tokenizer.decoder = decoders.Metaspace() if marks_first else decoders.WordPiece()
    return tokenizer


@pytest.mark.parametrize("marks_first", [True, False], ids=["sentencepiece", "wordpiece"])
def test_streamed_pieces_keep_the_spaces_that_a_decoder_puts_between_words(marks_first):
    tokenizer = words_with_marks(marks_first)
    assert list(stream_text(tokenizer, [1, 4, 2, 3, 4])) == ["to", "s", " be", " or", "s"]
    assert list(stream_text(tokenizer, [2, 4], after=[1, 3])) == [" be", "s"]
