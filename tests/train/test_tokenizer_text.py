import datasets
import pytest

from minitransformer.data import columns
from train.engine import tokenizer_text
from train.engine.tokenizer_text import first_pieces, first_texts


def test_a_tokenizer_learns_from_the_beginning_of_a_large_corpus(monkeypatch):
    monkeypatch.setattr(columns, "ROWS", 1)
    texts = ["abc ab", "bé ab", "ab abc", "xyz"]
    split = datasets.Dataset.from_dict({"text": texts})
    assert list(first_texts(split, "text")) == list(first_pieces(split)) == texts
    monkeypatch.setattr(tokenizer_text, "TOKENIZER_BYTES", 12)
    with pytest.warns(UserWarning, match="is trained on the first 0 MB of the texts, 2 of 4"):
        assert list(first_texts(split, "text")) == texts[:2]
    with pytest.warns(UserWarning, match="is trained on the first 0 MB of the text$"):
        assert list(first_pieces(split)) == texts[:2]
