"""Trained byte-pair encodings, of characters and of bytes, and their text as it streams."""

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from minitransformer.errors import InputError
from minitransformer.tokenization import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    load_tokenizer,
    stream_text,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    unknown_characters,
)

SENTENCES = [
    "The houses, the hills and the hounds don't hurry.",
    "  Ein  Häuschen am\u00a0See:\r\n\n\tes heißt [EOS]… ",
    "नमस्ते, été e\u0301te\u0301 👩\u200d💻 日本語 שלום \u0301 \x00\x1f 1234567",
]
BPE_TRAINERS = [train_bpe_tokenizer, train_byte_bpe_tokenizer]


def model_of(tokenizer):
    return json.loads(tokenizer.to_str())["model"]


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


@pytest.mark.parametrize("train", BPE_TRAINERS)
def test_specials_are_ids_0_to_3_and_not_added_tokens(train):
    tokenizer = train(SENTENCES, 400)
    assert [tokenizer.id_to_token(i) for i in range(4)] == [PAD, UNK, BOS, EOS]
    assert json.loads(tokenizer.to_str())["added_tokens"] == []


@pytest.mark.parametrize("train", BPE_TRAINERS)
def test_frequent_words_become_one_token_with_the_space_before_them(train):
    tokenizer = train(["of the house, by the house"] * 5, 400)
    encoding = tokenizer.encode("of the house, by the house")
    assert len(encoding.ids) == 9
    assert encoding.tokens[0] == BOS
    assert encoding.tokens[-1] == EOS
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("of the house, by", add_special_tokens=False).ids]
    assert pieces == ["of", " the", " house", ",", " by"]


@given(st.text())
@settings(max_examples=60, deadline=None)
@example(SENTENCES[1])
@example(SENTENCES[2])
@example(" _▁Ġ#x \u2028\x85\u3000\u200b ")
def test_bpe_gives_back_any_text_of_known_characters(text):
    tokenizer = train_bpe_tokenizer([text, "x"], len(set(text + "x")) + 4 + 10)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert unknown_characters(tokenizer, [text]) == {}


BYTES = train_byte_bpe_tokenizer(SENTENCES, 320)
GPT2_WITH_OUR_MERGES = GPT2Tokenizer(
    vocab=model_of(BYTES)["vocab"], merges=[tuple(pair) for pair in model_of(BYTES)["merges"]]
)


@given(
    st.text() | st.lists(st.sampled_from([*SPECIALS, " ", "\r\n", "\u0301", "\ufffd", "👩\u200d💻", "ש"])).map("".join)
)
@settings(max_examples=200, deadline=None)
@example("  leading, \r\n and trailing \n")
def test_byte_bpe_gives_back_any_text_whatever_it_was_trained_on(text):
    encoding = BYTES.encode(text)
    assert BYTES.decode(encoding.ids) == text
    assert min(BYTES.encode(text, add_special_tokens=False).ids, default=4) >= 4
    assert unknown_characters(BYTES, [text]) == {}


def test_byte_bpe_knows_every_byte_even_if_trained_on_one_letter():
    tokenizer = train_byte_bpe_tokenizer(["a"], 260)
    assert set(model_of(tokenizer)["vocab"]) == {*SPECIALS, *pre_tokenizers.ByteLevel.alphabet()}
    assert len(tokenizer.encode("日", add_special_tokens=False)) == 3


@pytest.mark.parametrize("train", BPE_TRAINERS)
@pytest.mark.parametrize("around", ["{}", " {}", "[{}]", "{0}{0}", "x{}x", "\n{}"])
def test_no_corpus_makes_text_that_spells_a_special_token_special(train, around, tmp_path):
    texts = [around.format(token) for token in SPECIALS]
    tokenizer = train([*texts * 20, " "], 1000)
    assert tokenizer.get_vocab_size() < 1000  # every pair that may be merged is
    assert tokenizer.token_to_id("EOS") is not None or "x" in around
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in [*texts, "".join(texts), " ".join(texts)]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert min(ids) >= 4
        assert tokenizer.decode(ids) == text
        assert theirs(text, add_special_tokens=False).input_ids == ids


@pytest.mark.parametrize("train", BPE_TRAINERS)
@pytest.mark.parametrize("named", [False, True])
def test_transformers_agrees_and_pads(train, named, tmp_path):
    tokenizer = train([*SENTENCES, "".join(SPECIALS)], 400)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    names = dict(pad_token=PAD, unk_token=UNK, bos_token=BOS, eos_token=EOS, split_special_tokens=True) if named else {}
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names)
    assert len(theirs) == tokenizer.get_vocab_size()
    for text in [*SENTENCES, "", " x , y . it 's", "∀ unknown", " [PAD]"]:
        encoding = tokenizer.encode(text)
        assert theirs(text).input_ids == encoding.ids
        for skipped in (False, True):
            assert theirs.decode(encoding.ids, skip_special_tokens=skipped) == tokenizer.decode(encoding.ids)
    if named:
        batch = theirs(SENTENCES, padding=True)
        for ids, valid, text in zip(batch.input_ids, batch.attention_mask, SENTENCES, strict=True):
            own = tokenizer.encode(text).ids
            assert ids == own + [0] * (len(ids) - len(own))
            assert sum(valid) == len(own)


def test_byte_bpe_learns_what_gpt2s_trainer_learns():
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator(SENTENCES, 320, min_frequency=0, special_tokens=list(SPECIALS), show_progress=False)
    assert model_of(BYTES)["vocab"] == theirs.get_vocab()
    assert model_of(BYTES)["merges"] == model_of(theirs)["merges"]


@given(st.text())
@settings(max_examples=60, deadline=None)
@example("they'll  don't\n\n 10 ,,")
def test_byte_bpe_cuts_text_as_gpt2_does(text):
    assert BYTES.encode(text, add_special_tokens=False).ids == GPT2_WITH_OUR_MERGES(text).input_ids


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from(" \n\t'.e\u0301न\u094d9")))
@settings(max_examples=100, deadline=None)
@example("L'été  e\u0301te\u0301,नमस्ते 12½ ...\n\n end ")
def test_bpe_pieces_are_of_one_kind_with_at_most_one_space_before_them(text):
    cut = train_bpe_tokenizer(["x"], 5).pre_tokenizer.pre_tokenize_str(text)
    assert "".join(piece for piece, _ in cut) == text
    for piece, _ in cut:
        kinds = {kind_of(character) for character in piece.removeprefix(" ") or " "}
        assert len(kinds) == 1


def kind_of(character):
    kinds = [r"[\p{L}\p{M}]", r"\p{N}", r"\s", r"[\s\S]"]
    # What a pattern matches is removed; nothing is left where it matches the character.
    removers = [pre_tokenizers.Split(Regex(kind), behavior="removed") for kind in kinds]
    return next(i for i, remover in enumerate(removers) if not remover.pre_tokenize_str(character))


def test_bpe_reads_each_unknown_character_as_unk_and_counts_it():
    tokenizer = train_bpe_tokenizer(["a house", "the house"], 60)
    encoding = tokenizer.encode("the höuse 日本", add_special_tokens=False)
    assert encoding.tokens.count(UNK) == 3
    assert tokenizer.decode(encoding.ids) == "the huse "
    assert unknown_characters(tokenizer, ["the höuse 日本", "日"]) == {"日": 2, "ö": 1, "本": 1}


@pytest.mark.parametrize("train", BPE_TRAINERS)
def test_training_is_the_same_whatever_the_order_of_texts_and_kind_of_iterable(train):
    texts = [f"{word}{end} {i}" for i in range(40) for word in ("ab", "ba", "cd", "dc") for end in ("", "x", "y")]
    first = train(texts, 300).to_str()
    assert train(texts, 300).to_str() == first
    assert train(reversed(texts), 300).to_str() == first
    assert train((text for text in texts), 300).to_str() == first


@pytest.mark.parametrize("train", BPE_TRAINERS)
def test_nothing_to_train_on_is_an_input_error(train):
    for texts in ([], ["", ""]):
        with pytest.raises(InputError, match="no characters"):
            train(texts, 300)
    with pytest.raises(InputError, match="one string"):
        train("a whole book", 300)


def test_too_small_a_vocabulary_is_refused_with_its_size_and_the_least():
    def untouched():
        raise AssertionError("read before the size was checked")
        yield ""

    for train, size, least in [(train_byte_bpe_tokenizer, 259, 260), (train_bpe_tokenizer, 4, 5)]:
        with pytest.raises(InputError, match=rf"vocab_size={size} must be at least {least}"):
            train(untouched(), size)
    texts = ["abc", "cde"]
    assert train_bpe_tokenizer(texts, 9).get_vocab_size() == 9
    with pytest.raises(InputError, match=r"vocab_size=8 is too small for the 5 characters .* at least 9"):
        train_bpe_tokenizer(iter(texts), 8)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_streamed_pieces_are_together_the_decoded_text(tokenizer, data):
    # Ids at random: for bytes most are no text, cut off or wrong in every way.
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=30))
    pieces = list(stream_text(tokenizer, iter(ids)))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert "" not in pieces


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\ufffd")))
@settings(max_examples=100, deadline=None)
@example(SENTENCES[2])
def test_streamed_pieces_of_text_are_whole_characters_as_early_as_in_decode_stream(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    theirs = decoders.DecodeStream(skip_special_tokens=True)
    expected = [piece for token_id in ids if (piece := theirs.step(tokenizer, token_id))]
    assert list(stream_text(tokenizer, ids)) == expected


def test_a_cut_off_character_is_shown_at_the_end():
    ids = BYTES.encode("ab日", add_special_tokens=False).ids[:-1]
    assert list(stream_text(BYTES, ids)) == ["a", "b", "\ufffd"]
    theirs = decoders.DecodeStream(skip_special_tokens=True)
    assert [theirs.step(BYTES, i) for i in ids][-1] is None


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
    assert len(ids) <= counting.tokens <= 4 * len(ids)


def test_a_tokenizer_read_from_its_file_is_the_same(tmp_path):
    for number, train in enumerate(BPE_TRAINERS):
        tokenizer = train(SENTENCES, 400)
        tokenizer.save(str(tmp_path / f"{number}.json"))
        assert load_tokenizer(tmp_path / f"{number}.json").to_str() == tokenizer.to_str()


def test_no_bpe_of_characters_mixes_a_bracket_and_a_letter():
    tokenizer = train_bpe_tokenizer(["[EOS][PAD] a[b]c"] * 9, 500)
    assert not [token for token in list(model_of(tokenizer)["vocab"])[4:] if re.search(r"[\[\]].*\w|\w.*[\[\]]", token)]
