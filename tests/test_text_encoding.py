import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from minitransformer.text_encoding import encode_texts, pad, words_of
from minitransformer.tokenization import (
    token_texts,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)


def test_pad_fills_up_on_the_right():
    assert pad([[1, 2, 3], [], [4]], pad_id=9).tolist() == [[1, 2, 3], [9, 9, 9], [4, 9, 9]]
    assert pad([[1]], pad_id=0).dtype == torch.int64
    assert pad([], pad_id=9).shape == (0, 0)


def word_tokenizer():
    """One that pads and cuts by itself, as those of published checkpoints do."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "[", "]", "SEP"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(3)
    return tokenizer


def test_a_text_stands_between_the_models_own_marks_and_cannot_spell_them():
    tokenizer = word_tokenizer()
    rows, cut, unknown = encode_texts(["a b", "a [SEP] b"], tokenizer, 20)
    assert rows == [[2, 5, 6, 3], [2, 5, 7, 9, 8, 6, 3]]
    assert (cut, unknown) == (0, {})
    assert tokenizer.padding["length"] == 9  # the caller's is left alone


@pytest.mark.parametrize("train_tokenizer", [train_character_tokenizer, lambda t: train_byte_bpe_tokenizer(t, 261)])
def test_for_a_causal_model_the_end_of_text_stands_on_both_sides(train_tokenizer):
    tokenizer = train_tokenizer(["ab"])
    [row], _, _ = encode_texts(["ab"], tokenizer, 9)
    assert row == [3, *tokenizer.encode("ab", add_special_tokens=False).ids, 3]


def test_long_texts_are_cut_and_unknown_words_read_as_unk_and_both_are_counted():
    rows, cut, unknown = encode_texts(["a b a", "a b a b", "b", "", "dog b dog"], word_tokenizer(), 5)
    assert rows == [[2, 5, 6, 5, 3], [2, 5, 6, 5, 3], [2, 6, 3], [2, 3], [2, 1, 6, 1, 3]]
    assert (cut, unknown) == (1, {"dog": 2})
    assert encode_texts([], word_tokenizer(), 5) == ([], 0, {})


def sentencepiece_like():
    """Compatible characters, words that begin with ▁, and bytes for what the vocabulary lacks."""
    specials = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(unk_token="[UNK]", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(["a good film"], trainers.BpeTrainer(vocab_size=300, special_tokens=specials))
    tokenizer = Tokenizer(trained.model)  # where the bytes are no added tokens
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    return tokenizer


TOKENIZERS = {
    "character": train_character_tokenizer(["a good film"]),
    "bpe": train_bpe_tokenizer(["a good film"], 20),
    "byte": train_byte_bpe_tokenizer(["a good film"], 265),
    "roberta": train_roberta_tokenizer(["a good film"], 265),
    "wordpiece": train_wordpiece_tokenizer(["a good film"], 40),
    "sentencepiece": sentencepiece_like(),
}
SPELLINGS = [
    "good 🙂 film, naïve 不是",
    "हिन्दी ก็มี 각 ❤️ 👍🏽 🇩🇪🇫🇷 ﻻِ",
    "👩‍👩‍👧 ﬁlm ½",
    " a  good\n\nfilm. ",
    "e\u0301 \u200b\x07a",
    "🙂",
    "a",
]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", SPELLINGS, ids=ascii)
def test_words_side_by_side_are_the_text(text, name):
    tokenizer = TOKENIZERS[name]
    [row], *_ = encode_texts([text], tokenizer, 99)
    _, *words, _ = words_of(text, row, tokenizer)
    assert "".join("".join(word.split()) for word, _ in words) == "".join(text.split())
    assert [place for _, places in words for place in places] == [*range(1, len(row) - 1)]
    assert all(word.strip() == word != "" for word, _ in words)
    # Of a text that is cut, the words that were read.
    [cut], *_ = encode_texts([text], tokenizer, 4)
    assert text.strip().startswith(words_of(text, cut, tokenizer)[1][0])


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("हिन्दी", "हि|न्दी"),
        ("क्षत्रिय", "क्ष|त्रि|य"),
        ("தமிழ்", "த|மி|ழ்"),
        ("ก็มีไหม", "ก็|มี|ไ|ห|ม"),
        ("e\u0301a\u0323\u0302u", "e\u0301|a\u0323\u0302|u"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "\u1112\u1161\u11ab|\u1100\u1173\u11af"),
        ("👩‍👩‍👧👍🏽🇩🇪🇫🇷❤️", "👩‍👩‍👧|👍🏽|🇩🇪|🇫🇷|❤️"),
        ("مُحَمَّد", "مُ|حَ|مَّ|د"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_word_divides_a_character(name, text, characters):
    ends, end = set(), 0
    for character in characters.split("|"):
        ends.add(end := end + len(character))
    tokenizer = TOKENIZERS[name]
    for around in ("", "a"):
        [row], *_ = encode_texts([f"{around}{text} a"], tokenizer, 99)
        _, *words, _ = words_of(f"{around}{text} a", row, tokenizer)
        end = -len(around)
        for word, _ in words:
            end += len(word)
            assert end <= 0 or end >= len(text) or end in ends


def test_words_are_apart_where_the_tokenizer_puts_them_apart():
    [row], *_ = encode_texts(["a good, good film"], TOKENIZERS["wordpiece"], 99)
    words = [word for word, _ in words_of("a good, good film", row, TOKENIZERS["wordpiece"])]
    assert words == ["[CLS]", "a", "good", ",", "good", "film", "[SEP]"]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", SPELLINGS, ids=ascii)
def test_the_texts_of_tokens_side_by_side_are_the_decoded_text(text, name):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts).replace("[UNK]", "") == tokenizer.decode(ids)
    end = {"wordpiece": "[SEP]", "roberta": "</s>"}.get(name, "[EOS]")
    assert token_texts(tokenizer, [*ids, tokenizer.token_to_id(end)])[-1] == end
