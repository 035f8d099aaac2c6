"""Pairs as text and as tokens: the tokenizers that are trained on them."""

import datasets
import pytest

from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer
from train.translate.data import tokenizers_for

SOURCES = [f"der Hund {n % 7} sieht" for n in range(2500)]
TARGETS = [f"the dog sees {n % 5}" for n in range(2500)]


@pytest.fixture(scope="module")
def split():
    return datasets.Dataset.from_dict({"source": SOURCES, "target": TARGETS})


def test_tokenizers_learn_from_all_texts_in_order(split):
    joint, same = tokenizers_for(split, "bpe", vocab_size=60, joint=True)
    assert joint is same
    assert joint.to_str() == train_bpe_tokenizer([*SOURCES, *TARGETS], 60).to_str()
    sides = tokenizers_for(split, "bpe", vocab_size=50, joint=False)
    assert [each.to_str() for each in sides] == [train_bpe_tokenizer(side, 50).to_str() for side in (SOURCES, TARGETS)]
    sides = tokenizers_for(split, "character", vocab_size=50, joint=True)
    assert [each.to_str() for each in sides] == [
        train_character_tokenizer(side).to_str() for side in (SOURCES, TARGETS)
    ]
