"""Every kind of tokenizer that is trained here, against transformers and the tokenizers library."""

import json
import unicodedata
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import BertTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from minitransformer.errors import InputError
from minitransformer.tokenization import (
    BERT_SPECIALS,
    BOS,
    EOS,
    PAD,
    ROBERTA_SPECIALS,
    SPECIALS,
    UNK,
    encode_with_masks,
    end_of_text_id,
    load_tokenizer,
    masked_specials,
    special_ids,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
    unknown_characters,
)

SPELLED = " ".join([*SPECIALS, *BERT_SPECIALS, *ROBERTA_SPECIALS])
TEXTS = [
    "The unaffable houses, the hills and the hounds don't hurry; unhurried!",
    "  Ein  Häuschen am\u00a0See:\r\n\n\tes heißt [EOS]… Çà et là ",
    "नमस्ते, été e\u0301te\u0301 👩\u200d💻 日本語 שלום мир \u0301 \x00\x1f 1234567 x²",
]
ODD = ["", "   \n", " x , y . it 's", "∀ unknown \ufffd a\u200bb", "ÉTÉ İstanbul ﬁne ß ΣΑΣ", " [PAD]", SPELLED]
TRAINERS = {
    "characters": lambda texts, size: train_character_tokenizer(texts),
    "bpe": train_bpe_tokenizer,
    "byte bpe": train_byte_bpe_tokenizer,
    "roberta": train_roberta_tokenizer,
    "wordpiece": train_wordpiece_tokenizer,
    "wordpiece cased": partial(train_wordpiece_tokenizer, lowercase=False),
    "wordpiece without accents": partial(train_wordpiece_tokenizer, strip_accents=True),
}
every_trainer = pytest.mark.parametrize("train", TRAINERS.values(), ids=TRAINERS)
BYTES, MASKED = ["byte bpe", "roberta"], ["roberta", "wordpiece"]
LEAST = {"bpe": 5, "byte bpe": 260, "roberta": 261, "wordpiece": 6}


def of(names):
    return pytest.mark.parametrize("train", [TRAINERS[name] for name in names], ids=names)


def model_of(tokenizer):
    return json.loads(tokenizer.to_str())["model"]


def plain(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@every_trainer
def test_special_tokens_come_first_surround_a_text_and_are_left_out_when_decoded(train):
    tokenizer = train(TEXTS, 400)
    specials = next(s for s in (BERT_SPECIALS, ROBERTA_SPECIALS, SPECIALS) if tokenizer.token_to_id(s[-1]) is not None)
    assert [tokenizer.id_to_token(i) for i in range(len(specials))] == list(specials)
    assert tokenizer.get_added_tokens_decoder() == {}
    assert special_ids(tokenizer) == set(range(len(specials)))
    ids = tokenizer.encode("the hills and the hounds").ids
    first, last = {SPECIALS: (BOS, EOS), BERT_SPECIALS: ("[CLS]", "[SEP]"), ROBERTA_SPECIALS: ("<s>", "</s>")}[specials]
    assert ids == [tokenizer.token_to_id(first), *plain(tokenizer, "the hills and the hounds").ids, ids[-1]]
    assert ids[-1] == tokenizer.token_to_id(last)
    for each in (ids, ids[1:-1], [*range(len(specials)), *ids]):
        assert tokenizer.decode(each) == "the hills and the hounds"
    assert tokenizer.decode([]) == tokenizer.decode([*range(len(specials))]) == ""


@every_trainer
@pytest.mark.parametrize("around", ["{}", " {}", "[{}]", "{0}{0}", "x{}x", "\n{}"])
def test_no_corpus_makes_text_that_spells_a_special_token_special(train, around, tmp_path):
    texts = [around.format(token) for token in SPELLED.split()]
    tokenizer = train([*texts * 20, " "], 1000)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in [*texts, "".join(texts), " ".join(texts)]:
        for each in (tokenizer, load_tokenizer(tmp_path / "tokenizer.json")):
            assert not set(plain(each, text).ids) & (special_ids(each) - {each.token_to_id(UNK)})
        assert theirs(text, add_special_tokens=False).input_ids == plain(tokenizer, text).ids


@every_trainer
def test_transformers_reads_the_file_and_agrees_and_pads(train, tmp_path):
    tokenizer = train([*TEXTS, SPELLED], 400)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path / "tokenizer.json").to_str() == tokenizer.to_str()
    names = {"pad_token": "<pad>" if tokenizer.token_to_id("<pad>") is not None else PAD, "split_special_tokens": True}
    for options in ({}, names):
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **options)
        assert len(theirs) == tokenizer.get_vocab_size()
        for text in [*TEXTS, *ODD]:
            ids = tokenizer.encode(text).ids
            assert theirs(text).input_ids == ids
            assert theirs(text, add_special_tokens=False).input_ids == plain(tokenizer, text).ids
            assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    batch = theirs(TEXTS, padding=True)
    for ids, valid, text in zip(batch.input_ids, batch.attention_mask, TEXTS, strict=True):
        own = tokenizer.encode(text).ids
        assert ids == own + [tokenizer.token_to_id(names["pad_token"])] * (len(ids) - len(own))
        assert sum(valid) == len(own)


@of(["characters", "bpe"])
@given(st.text())
@example(unicodedata.normalize("NFC", TEXTS[2]))
@example(unicodedata.normalize("NFD", TEXTS[2]))
@example(" _▁Ġ#x \u2028\x85\u3000\u200b ")
def test_decoding_gives_back_any_text_of_known_characters(train, text):
    tokenizer = train([text, "x"], max(280, len(set(text)) + 20))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert unknown_characters(tokenizer, [text]) == {}


MARKS = "अपने पोस्ट ऑफिस में पदों पर भर्ती má mà mả mã mạ 한국어 문장 schon schön می\u200cخواهم 👩\u200d💻"


@of(["wordpiece", "wordpiece cased"])
def test_words_keep_their_marks_and_come_back_as_they_were(train):
    tokenizer = train([MARKS], 400)
    words = MARKS.split()
    assert [tokenizer.decode(tokenizer.encode(word).ids) for word in words] == words
    assert tokenizer.decode(tokenizer.encode(MARKS).ids) == MARKS
    stripped = train_wordpiece_tokenizer([MARKS], 400, strip_accents=True)
    assert plain(stripped, "schön má में").ids == plain(stripped, "schon ma म").ids


THAI = "ฉันชอบกินข้าวเช้าทุกวันและอ่านข่าวตอนเย็นที่บ้านของฉันในกรุงเทพมหานคร"
LONG = ["acgt" * 60, THAI * 3, "ひらがな" * 40, "=" * 250, " " * 250, "1234567" * 40, "x" * 100, "x" * 101, "é" * 1000]


@every_trainer
def test_a_run_without_a_space_is_cut_into_words_and_never_unknown(train):
    tokenizer = train([*LONG, "".join(LONG)], 600)
    for text in [*LONG, "".join(LONG), "".join(LONG[::-1])]:
        assert unknown_characters(tokenizer, [text]) == {}
        decoded = tokenizer.decode(tokenizer.encode(text).ids)
        if tokenizer.token_to_id("##a") is None:
            assert decoded == text
        else:
            assert decoded.replace(" ", "") == tokenizer.normalizer.normalize_str(text).replace(" ", "")


@of(["wordpiece", "wordpiece cased", "wordpiece without accents"])
@given(st.lists(st.text(), min_size=2))
def test_wordpieces_know_every_text_of_known_characters(train, texts):
    tokenizer = train([*texts, "x"], 3000)
    assert unknown_characters(tokenizer, ["".join(texts), "".join(reversed(texts)), "".join(texts)[::-1]]) == {}


@pytest.mark.parametrize(
    ("model", "text", "unknown"),
    [
        (models.WordPiece({"[UNK]": 0, "a": 1, "##a": 2}), "a b " + "a" * 101, {"b": 1, "a" * 101: 1}),
        (models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"), "a b b", {"b": 2}),
        (models.WordLevel({"?": 0, "a": 1}, unk_token="?"), "a b", {"b": 1}),
        (models.Unigram([("a", -1.0), ("<unk>", -9.0)], unk_id=1), "a b", {"b": 1}),
    ],
    ids=["wordpiece", "words", "another name", "unigram"],
)
def test_what_a_tokenizer_from_elsewhere_does_not_know_is_counted(model, text, unknown, tmp_path):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert unknown_characters(load_tokenizer(tmp_path / "tokenizer.json"), [text]) == unknown


def test_a_tokenizer_that_drops_what_it_does_not_know_says_so(tmp_path):
    Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.warns(UserWarning, match="has no token for what it does not know, and leaves it out"):
        load_tokenizer(tmp_path / "tokenizer.json")


TRAINED = {name: TRAINERS[name](TEXTS, 320) for name in BYTES}


@pytest.mark.parametrize("name", BYTES)
@given(st.text() | st.lists(st.sampled_from([*SPELLED.split(), " ", "\r\n", "\u0301", "\ufffd", "ש"])).map("".join))
def test_bytes_give_back_any_text_whatever_they_were_trained_on(name, text):
    tokenizer = TRAINED[name]
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert not set(plain(tokenizer, text).ids) & special_ids(tokenizer)
    assert unknown_characters(tokenizer, [text]) == {}


@pytest.mark.parametrize("train", [TRAINERS["characters"], train_bpe_tokenizer])
def test_each_unknown_character_is_one_unk_that_is_counted_and_decodes_to_nothing(train):
    tokenizer = train(["a house", "the house"], 60)
    encoding = plain(tokenizer, "the höuse 日本")
    assert encoding.tokens.count(UNK) == 3
    assert tokenizer.decode(encoding.ids) == "the huse "
    assert unknown_characters(tokenizer, ["the höuse 日本", "日"]) == {"日": 2, "ö": 1, "本": 1}
    assert unknown_characters(tokenizer, ["house"]) == {}


def test_byte_bpe_learns_what_gpt2s_trainer_learns():
    theirs, ours = ByteLevelBPETokenizer(), model_of(TRAINED["byte bpe"])
    theirs.train_from_iterator(TEXTS, 320, min_frequency=0, special_tokens=list(SPECIALS), show_progress=False)
    assert ours["vocab"] == theirs.get_vocab()
    assert ours["merges"] == model_of(theirs)["merges"]


GPT2 = GPT2Tokenizer(
    vocab=model_of(TRAINED["byte bpe"])["vocab"],
    merges=[tuple(pair) for pair in model_of(TRAINED["byte bpe"])["merges"]],
)


@given(st.text())
@example("they'll  don't\n\n 10 ,,")
def test_byte_bpe_cuts_text_as_gpt2_does(text):
    assert plain(TRAINED["byte bpe"], text).ids == GPT2(text).input_ids


WORDPIECES = {
    lowercase: train_wordpiece_tokenizer(TEXTS, 260, lowercase=lowercase, strip_accents=lowercase)
    for lowercase in (True, False)
}


@pytest.mark.parametrize("lowercase", WORDPIECES, ids=["lowercase", "cased"])
@given(st.text() | st.lists(st.sampled_from([*" ".join(TEXTS).split(), "[", "hur", "é"])).map(" ".join))
@example(ODD[3])
@example(ODD[4])
@example("x" * 100)
def test_wordpieces_are_those_of_berts_tokenizer(lowercase, text):
    """But for control characters, which BERT's drops, and words of more than 100 letters."""
    if any(special in text for special in BERT_SPECIALS) or any(unicodedata.category(c)[0] == "C" for c in text):
        return
    ours = WORDPIECES[lowercase]
    theirs = BertTokenizer(vocab=ours.get_vocab(), do_lower_case=lowercase, strip_accents=lowercase)
    assert ours.encode(text).ids == theirs(text).input_ids
    assert plain(ours, text).tokens == theirs.tokenize(text)
    pair, their_pair = ours.encode(text, "the hills"), theirs(text, "the hills")
    assert pair.ids == their_pair.input_ids
    assert pair.type_ids == their_pair.token_type_ids


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from(" \n\t'.e\u0301न\u094d9")))
@example("L'été  e\u0301te\u0301,नमस्ते 12½ ...\n\n end ")
def test_bpe_pieces_are_of_one_kind_with_at_most_one_space_before_them(text):
    cut = train_bpe_tokenizer(["x"], 5).pre_tokenizer.pre_tokenize_str(text)
    assert "".join(piece for piece, _ in cut) == text
    for piece, _ in cut:
        assert len({kind_of(character) for character in piece.removeprefix(" ") or " "}) == 1


def kind_of(character):
    kinds = [r"[\p{L}\p{M}]", r"\p{N}", r"\s", r"[\s\S]"]
    # A match is removed: nothing is left of a character that the pattern matches.
    removers = [pre_tokenizers.Split(Regex(kind), behavior="removed") for kind in kinds]
    return next(i for i, remover in enumerate(removers) if not remover.pre_tokenize_str(character))


@every_trainer
def test_training_is_the_same_in_every_run_whatever_the_order_of_texts_and_kind_of_iterable(train):
    texts = [f"{word}{end} {i}" for i in range(40) for word in ("ab", "ba", "cd", "dc") for end in ("", "x", "y")]
    first = train(texts, 300).to_str()
    assert train(texts, 300).to_str() == first
    assert train(reversed(texts), 300).to_str() == first
    assert train((text for text in texts), 300).to_str() == first


@every_trainer
def test_nothing_to_train_on_is_refused(train):
    for texts in ([], ["", ""], iter(())):
        with pytest.raises(InputError, match="no characters"):
            train(texts, 300)
    if train is not TRAINERS["characters"]:
        with pytest.raises(InputError, match="one string"):
            train("a whole book", 300)


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("size", ["one too small", 0, -1, 10**12, 2**70])
def test_a_vocabulary_of_a_size_out_of_bounds_is_refused_before_a_text_is_read(name, size):
    size = LEAST[name] - 1 if size == "one too small" else size
    with pytest.raises(InputError, match=f"vocab_size={size} must be at least {LEAST[name]}"):
        TRAINERS[name](map(pytest.fail, ["a text was read"]), size)


# In WordPiece, each letter is a piece at the beginning of a word and one inside.
@pytest.mark.parametrize(("name", "text", "least"), [("bpe", "abcde", 9), ("wordpiece", "a cat, a bat", 14)])
def test_a_vocabulary_too_small_for_the_characters_is_refused_with_the_least_size(name, text, least):
    message = f"vocab_size={least - 1} is too small for the 5 characters .* at least {least}$"
    with pytest.raises(InputError, match=message):
        TRAINERS[name]([text], least - 1)
    assert TRAINERS[name]([text], least).get_vocab_size() == least


@of(MASKED)
def test_a_prompts_mask_is_the_mask_id_and_includes_the_space_before_it(train):
    tokenizer = train(TEXTS, 300)
    specials = masked_specials(tokenizer)
    mask = specials.mask_token
    ids = encode_with_masks(tokenizer, f"the {mask} and {mask}{mask} hounds")
    parts = [plain(tokenizer, part).ids for part in ("the", " and", "", " hounds")]
    expected = [specials.cls_id, *parts[0]]
    for part in parts[1:]:
        expected += [specials.mask_id, *part]
    assert ids == [*expected, specials.sep_id]
    assert encode_with_masks(tokenizer, "the hounds") == tokenizer.encode("the hounds").ids


def test_a_tokenizer_of_another_kind_has_no_masked_specials():
    with pytest.raises(InputError, match=r"no \[CLS\] or <s>"):
        masked_specials(train_character_tokenizer(["abc"]))


def test_the_end_of_text_is_ours_or_that_of_gpt2_or_roberta(tmp_path):
    ours = train_character_tokenizer(["ab"])
    assert end_of_text_id(ours) == ours.token_to_id(EOS) != ours.token_to_id(PAD)
    for name in ("<|endoftext|>", "</s>"):
        theirs = ByteLevelBPETokenizer()
        theirs.train_from_iterator(["ab"], vocab_size=300, show_progress=False)
        theirs.add_special_tokens([name])
        theirs.save(str(tmp_path / "tokenizer.json"))
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        assert loaded.encode(f"ab{name}").ids[-1] == end_of_text_id(loaded) == loaded.get_vocab_size() - 1
    with pytest.raises(InputError, match=r"\[EOS\], <\|endoftext\|>, </s>"):
        end_of_text_id(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))


def test_a_loaded_tokenizer_neither_pads_nor_cuts(tmp_path):
    tokenizer = train_character_tokenizer(["abc"])
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert [len(e.ids) for e in loaded.encode_batch(["a", "abcabc"], add_special_tokens=False)] == [1, 6]


def test_missing_and_malformed_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer file at .*absent\.json$"):
        load_tokenizer(tmp_path / "absent.json")
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(InputError, match=r"it has vocab\.txt, of which transformers makes one: AutoTokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
    twice = train_character_tokenizer(["ab"]).to_str().replace('"a":4', '"b":4').encode()
    for content in (b'{"version": "1.0"}', b"not json", b"\xff\xfe", b"[" * 200 + b"]" * 200, b"[]", twice):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json is (not a tokenizer|not valid JSON|refused)"):
            load_tokenizer(tmp_path / "bad.json")
