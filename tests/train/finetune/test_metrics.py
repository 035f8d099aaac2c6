import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as their_confusion
from sklearn.metrics import f1_score

from train.finetune.metrics import confusion_matrix, macro_f1, wilson_interval

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(pairs)
def test_confusion_and_macro_f1_are_those_of_scikit_learn(both):
    predicted, true = zip(*both, strict=True)
    ours = confusion_matrix(predicted, true, 4)
    assert ours == their_confusion(true, predicted, labels=range(4)).tolist()
    present = sorted({*predicted, *true})
    expected = f1_score(true, predicted, labels=present, average="macro", zero_division=0)
    assert macro_f1(ours) == pytest.approx(expected)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (7, 10), (10, 10), (880, 1056)])
def test_the_ends_of_the_interval_are_the_shares_that_the_count_could_just_come_from(hits, count):
    # Wilson's interval is where |share - p| = z √(p (1 - p) / n).
    low, high = wilson_interval(hits, count)
    assert 0.0 <= low <= hits / count <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(hits / count - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), rel=1e-6)
