import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from minitransformer.errors import InputError
from minitransformer.tokenization import (
    BOS,
    EOS,
    PAD,
    UNK,
    end_of_text_id,
    load_tokenizer,
    train_character_tokenizer,
    unknown_characters,
)

TEXT = "a naïve e\u0301tude\r\n\n\t 10 [PAD] 👩\u200d💻 \u2028 日本"


def test_specials_come_first_and_characters_follow_sorted():
    tokenizer = train_character_tokenizer(["ba", "a c"])
    assert [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())] == [PAD, UNK, BOS, EOS, *" abc"]


@given(st.text())
def test_decoding_gives_back_any_text_of_known_characters(text):
    tokenizer = train_character_tokenizer([text, "x"])
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode(text, add_special_tokens=False)) == len(text)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_nothing_is_normalised(form):
    text = unicodedata.normalize(form, TEXT)
    tokenizer = train_character_tokenizer([text])
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_specials_stand_around_the_text_only_when_asked_for():
    tokenizer = train_character_tokenizer(["ab"])
    assert tokenizer.encode("ba").tokens == [BOS, "b", "a", EOS]
    assert tokenizer.encode("ba", add_special_tokens=False).tokens == ["b", "a"]


def test_each_unknown_character_is_one_unk_and_decodes_to_nothing():
    tokenizer = train_character_tokenizer(["ab"])
    assert tokenizer.encode("xayyb", add_special_tokens=False).tokens == [UNK, "a", UNK, UNK, "b"]
    assert tokenizer.decode(tokenizer.encode("xayyb").ids) == "ab"


def test_text_that_spells_a_special_token_stays_text(tmp_path):
    text = "".join([PAD, UNK, BOS, EOS])
    tokenizer = train_character_tokenizer([text])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for each in (tokenizer, load_tokenizer(tmp_path / "tokenizer.json")):
        encoding = each.encode(text, add_special_tokens=False)
        assert encoding.tokens == list(text)
        assert each.decode(encoding.ids) == text


def test_transformers_reads_the_file_and_agrees(tmp_path):
    tokenizer = train_character_tokenizer([TEXT])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in (TEXT, "unknown: ∀", ""):
        assert theirs(text).input_ids == tokenizer.encode(text).ids
        assert theirs(text, add_special_tokens=False).input_ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert theirs.decode(theirs(TEXT).input_ids) == TEXT


def test_training_on_nothing_is_an_input_error():
    with pytest.raises(InputError, match="no characters"):
        train_character_tokenizer(["", ""])


def test_missing_and_malformed_files_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no tokenizer file"):
        load_tokenizer(tmp_path / "absent.json")
    for content in (b'{"version": "1.0"}', b"not json", b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json is not a tokenizer"):
            load_tokenizer(tmp_path / "bad.json")


def test_unknown_characters_are_counted():
    tokenizer = train_character_tokenizer(["ab"])
    assert unknown_characters(tokenizer, ["aéx", "b", "👩é"]) == {"é": 2, "x": 1, "👩": 1}
    assert unknown_characters(tokenizer, ["ab"]) == {}


def test_the_end_of_text_is_ours_or_that_of_gpt2_or_roberta(tmp_path):
    ours = train_character_tokenizer(["ab"])
    assert ours.decode([end_of_text_id(ours)]) == ""
    assert end_of_text_id(ours) == ours.token_to_id(EOS) != ours.token_to_id(PAD)
    for name in ("<|endoftext|>", "</s>"):
        theirs = ByteLevelBPETokenizer()
        theirs.train_from_iterator(["ab"], vocab_size=300, show_progress=False)
        theirs.add_special_tokens([name])
        theirs.save(str(tmp_path / "tokenizer.json"))
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        assert end_of_text_id(loaded) == loaded.get_vocab_size() - 1
        assert loaded.encode(f"ab{name}").ids[-1] == end_of_text_id(loaded)


def test_a_tokenizer_without_an_end_of_text_is_refused_with_the_names_it_might_have():
    with pytest.raises(InputError, match=r"\[EOS\], <\|endoftext\|>, </s>"):
        end_of_text_id(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))


def test_a_loaded_tokenizer_neither_pads_nor_cuts(tmp_path):
    tokenizer = train_character_tokenizer(["abc"])
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert [len(e.ids) for e in loaded.encode_batch(["a", "abcabc"], add_special_tokens=False)] == [1, 6]
