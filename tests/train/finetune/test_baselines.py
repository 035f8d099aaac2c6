import itertools
import math
from collections import Counter

import datasets
import pytest

from train.finetune import baselines as module
from train.finetune.baselines import BASELINES, baselines, naive_bayes


def labelled(texts, labels):
    return datasets.Dataset.from_dict({"text": texts, "label": labels})


TRAIN = labelled(["a good film", "good good fun", "a bad film", "a bore"], [1, 1, 0, 0])
HELD_OUT = labelled(["good film", "bad bore", "a fun film"], [1, 0, 1])


def test_naive_bayes_counts_words_and_pairs():
    def grams(text):
        words = text.split()
        return [*words, *itertools.pairwise(words)]

    texts, labels = TRAIN["text"][:], TRAIN["label"][:]
    vocabulary = {gram for text in texts for gram in grams(text)}
    counts = [
        Counter(g for t, y in zip(texts, labels, strict=True) for g in grams(t) if y == label) for label in (0, 1)
    ]

    def log_joint(text, label):
        total = counts[label].total() + 0.5 * len(vocabulary)
        known = [gram for gram in grams(text) if gram in vocabulary]
        return math.log(0.5) + sum(math.log((counts[label][gram] + 0.5) / total) for gram in known)

    model = naive_bayes(0.5).fit(texts, labels)
    for text, probabilities in zip(HELD_OUT["text"], model.predict_proba(HELD_OUT["text"][:]), strict=True):
        joint = [math.exp(log_joint(text, label)) for label in (0, 1)]
        assert probabilities.tolist() == pytest.approx([value / sum(joint) for value in joint])


def test_settings_are_chosen_on_validation_and_the_test_is_scored_with_them(monkeypatch):
    # Labels turned round: what is best on the one is worst on the other.
    turned = labelled(HELD_OUT["text"][:], [1 - label for label in HELD_OUT["label"]])
    tried = []

    class Fixed:
        def __init__(self, setting):
            self.setting = setting

        def fit(self, texts, labels):
            tried.append(labels)

        def predict(self, texts):
            import numpy

            right = (HELD_OUT if self.setting == 2.0 else turned)["label"]
            return numpy.array([right[HELD_OUT["text"][:].index(text)] for text in texts])

    monkeypatch.setattr(module, "BASELINES", {"fixed": (Fixed, (1.0, 2.0, 3.0))})
    result = baselines({"train": TRAIN, "validation": HELD_OUT, "test": turned}, "test", 2)["fixed"]
    assert (result["setting"], result["validation_accuracy"], result["accuracy"]) == (2.0, 1.0, 0.0)
    assert tried == [TRAIN["label"][:]] * 3


def test_both_learn_what_words_tell():
    splits = {"train": TRAIN, "validation": HELD_OUT}
    results = baselines(splits, "validation", 2)
    assert results.keys() == BASELINES.keys()
    assert [result["accuracy"] for result in results.values()] == [1.0, 1.0]


def test_texts_without_words_have_no_baselines():
    splits = dict.fromkeys(("train", "validation"), labelled(["?!", "..."], [0, 1]))
    assert baselines(splits, "validation", 2) == {}
