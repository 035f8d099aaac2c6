import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from minitransformer.data import word_ids
from minitransformer.data.word_ids import encoded, encodes_words_alone
from minitransformer.tokenization import (
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)

TEXT = "To be, or not to be:\n  that isn't the question.\t émigré 猫 can't 3rd e\u0301tude"
TOKENIZERS = {
    "wordpiece": train_wordpiece_tokenizer([TEXT], 90),
    "cased wordpiece": train_wordpiece_tokenizer([TEXT], 90, lowercase=False),
    "roberta": train_roberta_tokenizer([TEXT] * 3, 290),
    "byte-bpe": train_byte_bpe_tokenizer([TEXT] * 3, 290),
}
# Spaces that Python, BERT or GPT-2 see differently, marks that join what stands before them, what comes in apostrophes.
strange = st.text("ab 't\n\t\r\x0b\x1c\x85\xa0\u1680\u180e\u2003\u2028\u200b\u3000\ufeff\u0301Éß猫.3\0", max_size=20)
texts = st.lists(strange | st.text(max_size=12) | st.lists(st.sampled_from(TEXT.split())).map(" ".join), max_size=6)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(texts=texts, known=st.lists(strange, max_size=3))
def test_words_encoded_once_give_the_ids_of_the_texts(kind, texts, known):
    tokenizer = TOKENIZERS[kind]
    assert encodes_words_alone(tokenizer)
    words = {}
    list(encoded(known, tokenizer, words))
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert list(encoded(texts, tokenizer, words)) == expected
    assert list(encoded(iter(texts), tokenizer)) == expected


def test_words_that_are_known_are_not_encoded_again_and_all_are_forgotten_where_they_are_many(monkeypatch):
    monkeypatch.setattr(word_ids, "_BATCH", 1)
    tokenizer, words = TOKENIZERS["wordpiece"], {}
    first, _ = encoded(["to be to be", "not to be"], tokenizer, words)
    assert set(words) == {"to", " be", " to", "not"}
    words[" be"] = [80, 81]
    assert list(encoded(["to be"], tokenizer, words)) == [[*words["to"], 80, 81]]
    monkeypatch.setattr(word_ids, "_MOST", 3)
    assert list(encoded(["to be"], tokenizer, words)) == [first[: len(first) // 2]]
    assert set(words) == {"to", " be"}


def test_what_is_long_is_not_remembered():
    """Whole sentences of another script, or lines of base pairs: they would fill the memory, and do not come again."""
    tokenizer, words = TOKENIZERS["wordpiece"], {}
    texts = ["to be", "actg" * 1000, "猫" * 40, "to  be or not to be, two spaces after to"]
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert list(encoded(texts, tokenizer, words)) == expected
    assert set(words) == {"to", " be"}


def test_other_tokenizers_are_given_whole_texts():
    pieces = train_bpe_tokenizer([TEXT], 80)
    assert not encodes_words_alone(pieces)
    added = Tokenizer.from_str(TOKENIZERS["wordpiece"].to_str())
    added.add_tokens(["to be"])
    prefixed = Tokenizer.from_str(TOKENIZERS["byte-bpe"].to_str())
    prefixed.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for tokenizer in (pieces, added, prefixed):
        assert not encodes_words_alone(tokenizer)
        texts = [TEXT, "to be", ""]
        assert list(encoded(texts, tokenizer)) == [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
