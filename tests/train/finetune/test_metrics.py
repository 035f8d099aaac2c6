import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as their_confusion
from sklearn.metrics import f1_score

from train.finetune.metrics import MOST_COUNTED, scores, shown_labels, wilson_interval

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(pairs)
def test_confusion_and_macro_f1_are_those_of_scikit_learn(both):
    predicted, true = zip(*both, strict=True)
    ours = scores(predicted, true, "abcd")
    assert ours["confusion"] == their_confusion(true, predicted, labels=range(4)).tolist()
    present = sorted({*predicted, *true})
    expected = f1_score(true, predicted, labels=present, average="macro", zero_division=0)
    assert ours["macro_f1"] == pytest.approx(expected)
    assert ours["accuracy"] == pytest.approx(sum(p == t for p, t in both) / len(both))
    mistakes = Counter(("abcd"[t], "abcd"[p]) for p, t in both if p != t)
    assert [row["texts"] for row in ours["confused"]] == [count for _, count in mistakes.most_common(10)]
    assert all(mistakes[row["label"], row["given"]] == row["texts"] for row in ours["confused"])


def test_many_labels_have_no_confusion_matrix_but_the_pairs_mistaken_most_often():
    names = [f"label {n}" for n in range(50_000)]
    true = [n % 50_000 for n in range(60_000)]
    predicted = [7 if label == 49_999 else 5 if label == 3 else label for label in true]
    found = scores(predicted, true, names)
    assert found["confusion"] is None
    assert found["confused"][0] == {"label": "label 3", "given": "label 5", "texts": 2}
    assert len(json.dumps(found)) < 1000
    assert scores([0, 1], [0, 1], names[:MOST_COUNTED])["confusion"] is not None
    assert shown_labels(names) == ", ".join(names[:12]) + ", ... (50,000 labels)"


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (7, 10), (10, 10), (880, 1056)])
def test_the_ends_of_the_interval_are_the_shares_that_the_count_could_just_come_from(hits, count):
    # Wilson's interval is where |share - p| = z √(p (1 - p) / n).
    low, high = wilson_interval(hits, count)
    assert 0.0 <= low <= hits / count <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(hits / count - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), rel=1e-6)
