from itertools import chain

import pytest
from helpers_tables import in_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data import sentences as module
from minitransformer.data.sentences import (
    LINE_ENDS,
    SENTENCE_ENDS,
    encode_documents,
    parts_in_sentences,
    sentences,
)
from minitransformer.tokenization import train_roberta_tokenizer, train_wordpiece_tokenizer

running = st.text('ab .!"\n\t\u3002\u732b\u2026', max_size=120)


@pytest.fixture(scope="module", autouse=True)
def sizes():
    """Parts of a few words; no sentence is too long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART", 10)
        patch.setattr(module, "SLACK", 0)
        patch.setattr(module, "LONGEST", 1000)
        yield


def parts(texts, ends=SENTENCE_ENDS):
    return list(parts_in_sentences(([text] for text in texts), ends))


@settings(max_examples=500)
@given(st.lists(running, max_size=4), st.lists(st.integers(0, 120)), st.sampled_from([SENTENCE_ENDS, LINE_ENDS]))
def test_the_sentences_of_all_parts_are_those_of_the_whole_texts(texts, cuts, ends):
    whole = [sentence for text in texts for sentence in sentences(text, ends)]
    found = list(parts_in_sentences((in_blocks(text, cuts) for text in texts), ends))
    assert [sentence for part in found for text in part for sentence in text] == whole
    assert found == parts(texts, ends)
    for part in found:
        assert any(part)
        *before, _last = [len(sentence) for text in part for sentence in text]
        assert sum(before) <= module.PART


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_where_no_sentence_ends_a_part_does_at_the_end_of_a_word_or_anywhere(block, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 20)

    def in_parts(text):
        blocks = [text[start : start + block] for start in range(0, len(text), block)]
        return list(chain.from_iterable(parts_in_sentences([blocks])))

    assert in_parts("many words " * 8) == [["many words"]] * 6 + [["many words many words"]]
    assert in_parts("x" * 70) == [["x" * 30], ["x" * 30], ["x" * 10]]
    assert in_parts("One, two. " + " " * 90 + "Three. Four. Five.") == [["One, two."], ["Three."], ["Four.", "Five."]]


def test_sentences_end_at_stops_before_white_space_and_at_blank_lines():
    text = 'He said "Stop!" Then 3.5 miles... on\nand on? Yes\n\nA title\n \nEnd'
    assert sentences(text) == ['He said "Stop!"', "Then 3.5 miles...", "on\nand on?", "Yes", "A title", "End"]
    assert sentences("日本。本当？はい") == ["日本。", "本当？", "はい"]
    assert sentences("यह घर है। वह बड़ा है। هل؟ نعم۔ ہاں") == ["यह घर है।", "वह बड़ा है।", "هل؟", "نعم۔", "ہاں"]
    assert sentences(" \n\n ") == []


@given(st.text(alphabet="ab .!?\n\"'"))
def test_nothing_but_white_space_is_lost_between_sentences(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
    assert all(part == part.strip() != "" for part in sentences(text))


def test_long_texts_and_long_sentences_are_divided_and_documents_know_their_text():
    tokenizer = train_wordpiece_tokenizer(["a b c d e"], 30)
    documents = encode_documents([["a b c d e", "a"], [], ["b"] * 5, []], tokenizer, longest=2, most=3)
    assert [document.text for document in documents] == [0, 0, 2, 2]
    assert [[tokenizer.decode(ids) for ids in document.sentences] for document in documents] == [
        ["a b", "c d", "e"],
        ["a"],
        ["b", "b", "b"],
        ["b", "b"],
    ]


def test_byte_level_sentences_keep_the_space_between_them():
    tokenizer = train_roberta_tokenizer(["one two. three"], 300)
    (document,) = encode_documents([["one two.", "three"]], tokenizer, longest=50)
    assert tokenizer.decode([token for ids in document.sentences for token in ids]) == "one two. three"
