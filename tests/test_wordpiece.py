"""Tokenizers of masked models: WordPiece as BERT has it, byte-level BPE with RoBERTa's specials."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertTokenizer, PreTrainedTokenizerFast

from minitransformer.errors import InputError
from minitransformer.tokenization import (
    BERT_SPECIALS,
    ROBERTA_SPECIALS,
    encode_with_masks,
    load_tokenizer,
    masked_specials,
    special_ids,
    train_character_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)

TEXTS = [
    "The unaffable houses, the hills and the hounds don't hurry; unhurried!",
    "Ein Häuschen am\u00a0See:\r\n\n\tes heißt [EOS]… Çà et là",
    "नमस्ते, été e\u0301te\u0301 日本語 שלום мир 1234567 x²",
]
UNICODE = [
    "Héllo, WORLD! unhurried hills…",
    "[MASK] and [PAD][CLS] ##hills",
    "日本語のhounds 👩\u200d💻 \u0301 \x00\x1f \ufffd a\u200bb",
    "ÉTÉ İstanbul ﬁne ß ΣΑΣ",
    "",
    "   \n",
]


@pytest.fixture(scope="module", params=[True, False], ids=["lowercase", "cased"])
def wordpiece(request):
    return train_wordpiece_tokenizer(TEXTS, 260, lowercase=request.param)


@pytest.fixture(scope="module", params=["wordpiece", "roberta"])
def tokenizer(request):
    return (
        train_wordpiece_tokenizer(TEXTS, 260) if request.param == "wordpiece" else train_roberta_tokenizer(TEXTS, 300)
    )


def theirs_with(tokenizer):
    """Bert's tokenizer over the same vocabulary. The order of the file is the order of the ids."""
    lowercase = json.loads(tokenizer.to_str())["normalizer"]["lowercase"]
    return BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=lowercase)


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from([*" ".join(TEXTS).split(), "[", "hur", "é"])).map(" ".join))
@example(UNICODE[0])
@example(UNICODE[2])
@example(UNICODE[3])
@example("x" * 101)
def test_pieces_are_those_of_berts_tokenizer(wordpiece, text):
    if any(special in text for special in BERT_SPECIALS):
        return
    theirs = theirs_with(wordpiece)
    assert wordpiece.encode(text).ids == theirs(text).input_ids
    assert wordpiece.encode(text, add_special_tokens=False).tokens == theirs.tokenize(text)
    pair, their_pair = wordpiece.encode(text, "the hills"), theirs(text, "the hills")
    assert pair.ids == their_pair.input_ids
    assert pair.type_ids == their_pair.token_type_ids


def test_specials_are_ids_0_to_4_and_not_added_tokens(wordpiece):
    for tokenizer, specials in ((wordpiece, BERT_SPECIALS), (train_roberta_tokenizer(TEXTS, 300), ROBERTA_SPECIALS)):
        assert [tokenizer.id_to_token(i) for i in range(5)] == list(specials)
        assert tokenizer.get_added_tokens_decoder() == {}
        assert special_ids(tokenizer) == set(range(5))


def test_text_that_spells_a_special_token_stays_text(tokenizer, tmp_path):
    text = " ".join([*BERT_SPECIALS, *ROBERTA_SPECIALS])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for each in (tokenizer, load_tokenizer(tmp_path / "tokenizer.json")):
        ids = each.encode(text, add_special_tokens=False).ids
        assert not set(ids) & (special_ids(each) - {each.token_to_id("[UNK]")})
        assert len(ids) > 20


def test_the_encoded_text_is_between_the_specials_and_decodes_without_them(tokenizer):
    ids = tokenizer.encode("the hills and the unhurried hounds").ids
    specials = masked_specials(tokenizer)
    assert (ids[0], ids[-1]) == (specials.cls_id, specials.sep_id)
    padded = [*ids[:2], specials.mask_id, *ids[2:], specials.pad_id]
    for each in (ids, ids[1:-1], padded):
        assert tokenizer.decode(each) == "the hills and the unhurried hounds"


def test_transformers_reads_the_file_and_agrees(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    names = ("pad_token", "cls_token", "sep_token", "mask_token")
    specials = {
        name: tokenizer.id_to_token(index) for name, index in zip(names, masked_specials(tokenizer)[:4], strict=True)
    }
    plain = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in [*TEXTS, *UNICODE]:
        assert plain(text).input_ids == tokenizer.encode(text).ids
    told = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **specials)
    if told.mask_token == "[MASK]":  # RoBERTa's takes the space before it with it, which this class does not know
        assert told("the [MASK] and the hills").input_ids == encode_with_masks(tokenizer, "the [MASK] and the hills")
    assert told.mask_token_id == masked_specials(tokenizer).mask_id
    assert len(told) == tokenizer.get_vocab_size()


def test_a_prompts_mask_is_the_mask_id_and_takes_the_space_before_it(tokenizer):
    specials = masked_specials(tokenizer)
    mask = specials.mask_token
    ids = encode_with_masks(tokenizer, f"the {mask} and {mask}{mask} hounds")
    parts = [tokenizer.encode(part, add_special_tokens=False).ids for part in ("the", " and", "", " hounds")]
    expected = [specials.cls_id, *parts[0]]
    for part in parts[1:]:
        expected += [specials.mask_id, *part]
    assert ids == [*expected, specials.sep_id]
    assert encode_with_masks(tokenizer, "the hounds") == tokenizer.encode("the hounds").ids


def test_a_vocabulary_is_the_same_in_every_run():
    first, second = (train_wordpiece_tokenizer(iter(TEXTS), 260).to_str() for _ in range(2))
    assert first == second
    pieces = [piece for piece in Tokenizer.from_str(first).get_vocab() if piece.startswith("##")]
    assert pieces


def test_a_corpus_too_small_for_the_vocabulary_gives_a_smaller_one():
    tokenizer = train_wordpiece_tokenizer(["a cat, a bat"], 1000)
    assert tokenizer.get_vocab_size() < 30
    assert tokenizer.encode("a cat, a bat", add_special_tokens=False).tokens == ["a", "cat", ",", "a", "bat"]


def test_a_vocabulary_too_small_for_the_characters_is_refused():
    characters = len("abct,") + len("at") + len(BERT_SPECIALS)  # "##a" and "##t" too
    with pytest.raises(InputError, match=rf"vocab_size=10 is too small for the 7 .* at least {characters}"):
        train_wordpiece_tokenizer(["a cat, a bat"], 10)
    assert train_wordpiece_tokenizer(["a cat, a bat"], characters).get_vocab_size() == characters
    with pytest.raises(InputError, match="vocab_size=260 must be at least 261"):
        train_roberta_tokenizer(["a cat"], 260)


@pytest.mark.parametrize("train", [train_wordpiece_tokenizer, train_roberta_tokenizer])
def test_training_on_nothing_is_an_input_error(train):
    with pytest.raises(InputError, match="no characters"):
        train(["", ""], 300)
    with pytest.raises(InputError, match="one string"):
        train("a cat", 300)


def test_a_tokenizer_of_another_kind_has_no_masked_specials():
    with pytest.raises(InputError, match=r"no \[CLS\] or <s>"):
        masked_specials(train_character_tokenizer(["abc"]))


def test_special_tokens_alone_decode_to_nothing():
    tokenizer = train_wordpiece_tokenizer(["the love of life"] * 3, 60)
    love, mask = tokenizer.token_to_id("love"), tokenizer.token_to_id("[MASK]")
    assert [tokenizer.decode(ids) for ids in ([], [mask], [2, 3], [mask, love], [love, mask])] == [
        "",
        "",
        "",
        "love",
        "love",
    ]
