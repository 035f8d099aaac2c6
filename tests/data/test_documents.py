from itertools import pairwise

import datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data import documents as module
from minitransformer.data.documents import documents, pieces

running = st.text("ab \n\t猫", max_size=120)


def in_blocks(text, cuts):
    cuts = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(cuts)] or [""]


@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4), min_size=1, max_size=5))
def test_rows_that_continue_a_text_are_its_blocks(texts):
    rows = [(block, place > 0) for text in texts for place, block in enumerate(text)]
    split = datasets.Dataset.from_dict({"text": [b for b, _ in rows], "continues": [c for _, c in rows]})
    assert [list(text) for text in documents(split)] == texts
    assert [list(text) for text in documents(split.select_columns(["text"]))] == [[block] for block, _ in rows]


def test_rows_chosen_from_the_middle_of_a_text_are_a_text():
    split = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"], "continues": [False, True, True, False]})
    assert [list(text) for text in documents(split.select([1, 2, 3]))] == [["b", "c"], ["d"]]


@settings(max_examples=150, deadline=None)
@given(text=running, length=st.integers(1, 20), cuts=st.lists(st.integers(0, 120)))
def test_pieces_end_with_words_wherever_the_blocks_do(text, length, cuts):
    found = list(pieces(in_blocks(text, cuts), length))
    assert "".join(found) == text
    assert found == list(pieces([text], length))
    assert all(len(piece) >= length for piece in found[:-1])
    for one, other in pairwise(found):
        assert (other[0].isspace() and not one[-1].isspace()) or len(one) == module.LONGEST * length


def test_a_text_without_a_space_is_cut_all_the_same():
    found = list(pieces(["猫" * 1000] * 10, 2))
    assert max(map(len, found)) == 2 * module.LONGEST
    assert sum(map(len, found)) == 10_000
