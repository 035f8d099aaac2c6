import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from minitransformer.text_encoding import encode_texts, pad
from minitransformer.tokenization import (
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
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


TEXTS = ["a b", "é a b a", "[SEP] b", "", "a  b", "[CLS]", "[MASK]b [SEP]", " b\n", "a\tb"]


@pytest.mark.parametrize("tokenizer", [train_character_tokenizer(TEXTS), train_wordpiece_tokenizer(TEXTS, 60)])
def test_texts_become_the_tokens_of_the_whole_text(tokenizer):
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.encode_special_tokens = True
    expected = [whole.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert [row[1:-1] for row in encode_texts(TEXTS, tokenizer, 99)[0]] == expected
