import datasets
import numpy
import pytest

from train.finetune import baselines as module
from train.finetune.baselines import BASELINES, baselines


def labelled(texts, labels):
    return datasets.Dataset.from_dict({"text": texts, "label": labels})


TRAIN = labelled(["a good film", "good good fun", "a bad film", "a bore"], [1, 1, 0, 0])


@pytest.fixture
def tried(monkeypatch):
    """What a stand-in for the baselines has learned from. Setting 2 always guesses 1, the others always guess 0."""
    learned = []

    class Constant:
        def __init__(self, setting):
            self.label = int(setting == 2.0)

        def fit(self, texts, labels):
            learned.append((texts, labels))

        def predict(self, texts):
            return numpy.full(len(texts), self.label)

    monkeypatch.setattr(module, "BASELINES", {"constant": (Constant, (1.0, 2.0, 3.0))})
    return learned


def test_settings_are_chosen_on_validation_and_the_test_is_scored_with_them(tried):
    # What is best on the one is worst on the other.
    splits = {"train": TRAIN, "validation": labelled(["a", "b"], [1, 1]), "test": labelled(["c"], [0])}
    result = baselines(splits, "test", "ab")["constant"]
    assert (result["setting"], result["validation_accuracy"], result["accuracy"]) == (2.0, 1.0, 0.0)
    assert tried == [(TRAIN["text"][:], TRAIN["label"][:])] * 3


def test_baselines_learn_from_some_of_many_texts_and_from_every_label(tried):
    texts = [f"{'good' if label else 'bad'} film {place}" for label in (0, 1) for place in range(200)] + ["so so"]
    labels = [0] * 200 + [1] * 200 + [2]
    splits = dict.fromkeys(("train", "validation"), labelled(texts, labels))
    with pytest.warns(UserWarning, match=r"the baselines learn from 0 MB of the texts, \d\d of 401, drawn at random"):
        baselines(splits, "validation", "abc", learned_bytes=1000)
    some, theirs = tried[0]
    assert 500 < sum(map(len, some)) < 1500
    assert set(zip(some, theirs, strict=True)) < set(zip(texts, labels, strict=True))
    assert theirs.count(2) == 1
    assert 20 < theirs.count(1) < 60


@pytest.mark.parametrize(
    ("good", "bad"),
    [("not good", "good not"), ("में", "म"), ("我看好它了", "我看坏它了"), ("má", "ma"), ("😀", "😡"), ("½", "2")],
)
def test_pairs_of_words_marks_and_letters_without_spaces_between_them_are_told_apart(good, bad):
    train = labelled([f"{word} {i}" for i in range(6) for word in (good, bad)], [1, 0] * 6)
    held_out = labelled([f"{bad}?", f"{good}!"], [0, 1])
    results = baselines({"train": train, "validation": held_out}, "validation", "ab")
    assert results.keys() == BASELINES.keys()
    assert [result["accuracy"] for result in results.values()] == [1.0, 1.0]


def test_texts_without_words_have_no_baselines():
    splits = dict.fromkeys(("train", "validation"), labelled(["?!", "..."], [0, 1]))
    assert baselines(splits, "validation", "ab") == {}


def test_very_many_labels_have_no_baselines():
    with pytest.warns(UserWarning, match="no baselines: 5,000 labels would take them too much memory"):
        assert baselines({"train": TRAIN, "validation": TRAIN}, "validation", "ab" * 2500) == {}
