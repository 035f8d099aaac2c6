from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data import text_parts
from minitransformer.data.running_text import Texts, texts_of
from minitransformer.data.sentences import LINE_ENDS, SENTENCE_ENDS, sentences
from minitransformer.data.text_parts import SentenceTexts

running = st.text('ab .!"\n\t\u3002\u732b\u2026', max_size=120)


@pytest.fixture(scope="module", autouse=True)
def sizes():
    """Parts of a few words; no sentence is too long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_parts, "PART", 10)
        patch.setattr(text_parts, "SLACK", 0)
        patch.setattr(text_parts, "LONGEST", 1000)
        yield


def in_blocks(text, cuts):
    cuts = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(cuts)]


@settings(max_examples=500, deadline=None)
@given(st.lists(running, max_size=4), st.lists(st.integers(0, 120)), st.sampled_from([SENTENCE_ENDS, LINE_ENDS]))
def test_the_sentences_of_all_parts_are_those_of_the_whole_texts(texts, cuts, ends):
    whole = [sentence for text in texts for sentence in sentences(text, ends)]
    split = SentenceTexts(Texts(lambda: (in_blocks(text, cuts) for text in texts)), ends)
    parts = list(split.parts())
    assert [sentence for part in parts for text in part for sentence in text] == whole
    assert parts == list(SentenceTexts(texts_of(texts), ends).parts())  # however they come in blocks
    assert all(any(part) for part in parts)


@given(st.lists(running, max_size=4))
def test_what_is_smaller_than_a_part_is_one_part_with_every_text(texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_parts, "PART", 1000)
        parts = list(SentenceTexts(texts_of(texts)).parts())
    expected = [sentences(text) for text in texts]
    assert parts == ([expected] if any(expected) else [])


def test_a_part_ends_with_the_sentence_that_fills_it_and_a_text_goes_on_in_the_next():
    texts = texts_of(["One. Two. Three. Four. Five.", "Six.", "Seven.", "Eight."])
    assert list(SentenceTexts(texts).parts()) == [
        [["One.", "Two.", "Three."]],
        [["Four.", "Five."]],
        [["Six."], ["Seven."]],
        [["Eight."]],
    ]


def test_a_text_is_cut_only_if_it_goes_on_for_long(monkeypatch):
    monkeypatch.setattr(text_parts, "SLACK", 20)
    texts = [f"Text {number}. Is short." for number in range(6)]
    parts = list(SentenceTexts(texts_of(texts)).parts())
    assert len(parts) > 2
    assert [text for part in parts for text in part] == [sentences(text) for text in texts]
    assert len(list(SentenceTexts(texts_of(["One. Two. Three. Four. Five. Six. Seven."])).parts())) == 2


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_where_no_sentence_ends_a_part_does_at_the_end_of_a_word_or_anywhere(block, monkeypatch):
    monkeypatch.setattr(text_parts, "LONGEST", 20)

    def parts(text):
        blocks = [text[start : start + block] for start in range(0, len(text), block)]
        return list(chain.from_iterable(SentenceTexts(Texts(lambda: iter([blocks]))).parts()))

    assert parts("many words " * 8) == [["many words"]] * 6 + [["many words many words"]]
    assert parts("x" * 70) == [["x" * 30], ["x" * 30], ["x" * 10]]
    assert parts("One, two. " + " " * 90 + "Three. Four. Five.") == [["One, two."], ["Three."], ["Four.", "Five."]]
