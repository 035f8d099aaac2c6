from itertools import pairwise

import datasets
import pytest
from helpers_tables import in_blocks, refused, write
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.data.running_text import LONGEST, PIECE, documents, pieces

SHORT = "\n first\x0c line\u2028\n\n" + "and more é\n" * 9 + "\n"
LINES = "".join(f"line {n} of a long text 猫\n" for n in range(20_000))
ONE_LINE = "word é " * 30_000


@pytest.mark.parametrize("text", [SHORT, LINES, ONE_LINE, LINES + ONE_LINE + LINES, "x" * PIECE, "x" * 10])
@pytest.mark.parametrize("whole", [True, False])
def test_the_pieces_of_a_split_joined_are_its_text(text, whole, tmp_path):
    path = write(tmp_path / "train.txt", "\ufeff" + text.replace("\n", "\r\n"))
    if whole:
        write(tmp_path / "val.txt", "other")
        corpus, expected = load(tmp_path), {"train": text, "validation": "other"}
    else:
        cut = int(0.9 * len(text))
        corpus, expected = load(path), {"train": text[:cut], "validation": text[cut:]}
    assert corpus.keys() == expected.keys()
    for split, rows in corpus.items():
        found = rows["text"][:]
        assert "".join(found) == expected[split]
        assert list(texts(rows, "text")) == found
        assert all(0 < len(piece) <= PIECE for piece in found)
        assert all(piece.endswith("\n") or "\n" not in piece for piece in found[:-1])
        assert rows["continues"][:] == [False] + [True] * (len(found) - 1)


def test_the_same_text_has_the_same_fingerprint_and_its_parts_have_their_own(tmp_path):
    one, same = (write(tmp_path / name, SHORT) for name in ("a.txt", "b.txt"))
    assert load(tmp_path / "a", kind="text")["train"]._fingerprint == load(same)["train"]._fingerprint
    assert len({split._fingerprint for split in load(one).values()}) == 2


def test_a_text_of_few_characters_is_not_split(tmp_path):
    refused(write(tmp_path / "a.txt", "a" * 9), "9 characters are too few to split")
    assert load(write(tmp_path / "a.txt", "a" * 10)).num_rows == {"train": 1, "validation": 1}


running = st.text("ab \n\t猫", max_size=120)


@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4), min_size=1, max_size=5))
def test_rows_that_continue_a_text_are_its_blocks(blocks):
    rows = [(block, place > 0) for text in blocks for place, block in enumerate(text)]
    split = datasets.Dataset.from_dict({"text": [b for b, _ in rows], "continues": [c for _, c in rows]})
    assert [list(text) for text in documents(split)] == blocks
    assert [list(text) for text in documents(split.select_columns(["text"]))] == [[block] for block, _ in rows]


def test_rows_chosen_from_the_middle_of_a_text_are_a_text():
    split = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"], "continues": [False, True, True, False]})
    assert [list(text) for text in documents(split.select([1, 2, 3]))] == [["b", "c"], ["d"]]


@given(text=running, length=st.integers(1, 20), cuts=st.lists(st.integers(0, 120)))
def test_pieces_end_with_words_wherever_the_blocks_do(text, length, cuts):
    found = list(pieces(in_blocks(text, cuts), length))
    assert "".join(found) == text
    assert found == list(pieces([text], length))
    assert all(len(piece) >= length for piece in found[:-1])
    for one, other in pairwise(found):
        assert (other[0].isspace() and not one[-1].isspace()) or len(one) == LONGEST * length
