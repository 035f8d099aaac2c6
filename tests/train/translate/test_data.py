"""Pairs as text and as tokens: tokenizers trained on them, and the limit of a translation."""

import re

import datasets
import pytest
import torch

from minitransformer import RNNConfig, RNNSeq2Seq, Translator
from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer
from train.translate.bleu import Bleu
from train.translate.data import TranslationData, tokenizers_for
from train.translate.exact_match import ExactMatch

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


@pytest.mark.filterwarnings("ignore:.*translations are cut off")
@pytest.mark.parametrize(
    ("measure", "length", "extra"), [(Bleu, 45, 45 - 1 + 10), (Bleu, 5, 50), (ExactMatch, 5, 5 - 1 + 10)]
)
def test_the_limit_of_a_translation_lets_every_target_through_and_is_that_of_the_saved_model(
    measure, length, extra, tmp_path
):
    split = datasets.Dataset.from_dict({"source": ["a", "aaa"], "target": ["b", "b" * length][::-1]})
    tokenizers = tokenizers_for(split, "character", vocab_size=0, joint=False)
    test = datasets.Dataset.from_dict({"source": ["a"], "target": ["b" * 300]})  # no limit is chosen on it
    splits = {"train": split.select([1]), "validation": split, "test": test}
    data = TranslationData.of(splits, *tokenizers, limit=None)
    assert data.max_extra_tokens(measure.extra_tokens) == extra
    model = RNNSeq2Seq(RNNConfig(5, 5, d_model=4, hidden_size=4, max_extra_tokens=extra)).eval()
    with torch.no_grad():
        model.output.bias[:4] = -1e9  # it never ends
    data.translator(model).save(tmp_path)
    scored = data.translations(model, "validation")
    assert scored == Translator.load(tmp_path)(split["source"])
    assert [len(text) for text in scored] == [2 + extra, 4 + extra]


def test_a_pair_far_longer_than_the_others_is_warned_of_with_the_flag_that_leaves_it_out(recwarn):
    pairs = {"source": [*("a" * 10 for _ in range(30)), "a" * 2000], "target": ["b"] * 31}
    split = datasets.Dataset.from_dict(pairs)
    tokenizers = tokenizers_for(split, "character", vocab_size=0, joint=False)
    for limit, said in (
        (None, "the longest train pair has 2,001 tokens on a side, the median training pair 11: .* --max-length"),
        (100, "1 of 31 training pairs have more than 100 tokens on a side .* are left out"),
    ):
        TranslationData.of({"train": split, "validation": split}, *tokenizers, limit=limit)
        assert re.search(said, str(recwarn.pop().message))
        assert "the longest validation pair has 2,001 tokens" in str(recwarn.pop().message)
        assert not recwarn.list


@pytest.mark.parametrize("joint", [True, False])
def test_a_vocabulary_has_room_for_every_character_and_for_pieces(joint):
    """Chinese sentences have more characters than a vocabulary has tokens by default."""
    letters = [chr(0x4E00 + n) for n in range(9000)]
    pairs = {"source": [f"{letter}国 is read" for letter in letters], "target": [f"{letter}国" for letter in letters]}
    for tokenizer in tokenizers_for(datasets.Dataset.from_dict(pairs), "bpe", vocab_size=None, joint=joint):
        assert all(tokenizer.token_to_id(letter) is not None for letter in letters)
        assert tokenizer.get_vocab_size() > 9100
