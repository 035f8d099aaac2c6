import itertools
import math
from collections import Counter

import pytest

from minitransformer.data.labelled_texts import LabelledTexts
from train.finetune import baselines as module
from train.finetune.baselines import BASELINES, baselines, naive_bayes

TRAIN = LabelledTexts(["a good film", "good good fun", "a bad film", "a bore"], [1, 1, 0, 0])
HELD_OUT = LabelledTexts(["good film", "bad bore", "a fun film"], [1, 0, 1])


def test_naive_bayes_counts_words_and_pairs():
    def grams(text):
        words = text.split()
        return [*words, *itertools.pairwise(words)]

    vocabulary = {gram for text in TRAIN.texts for gram in grams(text)}
    counts = [Counter(g for t, y in zip(*TRAIN, strict=True) for g in grams(t) if y == label) for label in (0, 1)]

    def log_joint(text, label):
        total = counts[label].total() + 0.5 * len(vocabulary)
        known = [gram for gram in grams(text) if gram in vocabulary]
        return math.log(0.5) + sum(math.log((counts[label][gram] + 0.5) / total) for gram in known)

    model = naive_bayes(0.5).fit(*TRAIN)
    for text, probabilities in zip(HELD_OUT.texts, model.predict_proba(HELD_OUT.texts), strict=True):
        joint = [math.exp(log_joint(text, label)) for label in (0, 1)]
        assert probabilities.tolist() == pytest.approx([value / sum(joint) for value in joint])


def test_settings_are_chosen_on_validation_and_the_test_is_scored_with_them(monkeypatch):
    # Labels turned round: what is best on the one is worst on the other.
    turned = LabelledTexts(HELD_OUT.texts, [1 - label for label in HELD_OUT.labels])
    tried = []

    class Fixed:
        def __init__(self, setting):
            self.setting = setting

        def fit(self, texts, labels):
            tried.append(labels)

        def predict(self, texts):
            import numpy

            right = HELD_OUT.labels if self.setting == 2.0 else turned.labels
            return numpy.array([right[HELD_OUT.texts.index(text)] for text in texts])

    monkeypatch.setattr(module, "BASELINES", {"fixed": (Fixed, (1.0, 2.0, 3.0))})
    result = baselines({"train": TRAIN, "validation": HELD_OUT, "test": turned}, "test", 2)["fixed"]
    assert (result["setting"], result["validation_accuracy"], result["accuracy"]) == (2.0, 1.0, 0.0)
    assert tried == [TRAIN.labels] * 3


def test_both_learn_what_words_tell():
    splits = {"train": TRAIN, "validation": HELD_OUT}
    results = baselines(splits, "validation", 2)
    assert results.keys() == BASELINES.keys()
    assert [result["accuracy"] for result in results.values()] == [1.0, 1.0]


def test_texts_without_words_have_no_baselines():
    splits = dict.fromkeys(("train", "validation"), LabelledTexts(["?!", "..."], [0, 1]))
    assert baselines(splits, "validation", 2) == {}
