import pytest
from helpers_tables import refused, write

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.data.text_pieces import PIECE

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
        pieces = rows["text"][:]
        assert "".join(pieces) == expected[split]
        assert list(texts(rows, "text")) == pieces
        assert all(0 < len(piece) <= PIECE for piece in pieces)
        assert all(piece.endswith("\n") or "\n" not in piece for piece in pieces[:-1])
        assert rows["continues"][:] == [False] + [True] * (len(pieces) - 1)


def test_the_same_text_has_the_same_fingerprint_and_its_parts_have_their_own(tmp_path):
    one, same = (write(tmp_path / name, SHORT) for name in ("a.txt", "b.txt"))
    assert load(tmp_path / "a", kind="text")["train"]._fingerprint == load(same)["train"]._fingerprint
    assert len({split._fingerprint for split in load(one).values()}) == 2


def test_a_text_of_few_characters_is_not_split(tmp_path):
    refused(write(tmp_path / "a.txt", "a" * 9), "9 characters are too few to split")
    assert load(write(tmp_path / "a.txt", "a" * 10)).num_rows == {"train": 1, "validation": 1}
