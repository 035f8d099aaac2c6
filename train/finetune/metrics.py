"""How well predicted labels agree with the true ones."""

import math
from collections.abc import Sequence
from typing import Any


def confusion_matrix(predicted: Sequence[int], true: Sequence[int], num_labels: int) -> list[list[int]]:
    """How many texts of each true label (rows) were given each label (columns)."""
    matrix = [[0] * num_labels for _ in range(num_labels)]
    for guess, truth in zip(predicted, true, strict=True):
        matrix[truth][guess] += 1
    return matrix


def macro_f1(confusion: Sequence[Sequence[int]]) -> float:
    """The mean over labels of F1 = 2 hits / (given + true); labels that are neither given nor true are left out."""
    scores = []
    for place, row in enumerate(confusion):
        given, true = sum(other[place] for other in confusion), sum(row)
        if given + true:
            scores.append(2 * row[place] / (given + true))
    return sum(scores) / len(scores)


def wilson_interval(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% confidence interval of a share (Wilson 1927)."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At 0 and 1 an end is the share itself, which rounding must not pass.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def scores(predicted: Sequence[int], true: Sequence[int], num_labels: int) -> dict[str, Any]:
    """`accuracy` with its `interval`, `macro_f1` and `confusion`."""
    confusion = confusion_matrix(predicted, true, num_labels)
    hits = sum(confusion[place][place] for place in range(num_labels))
    return {
        "accuracy": hits / len(true),
        "interval": wilson_interval(hits, len(true)),
        "macro_f1": macro_f1(confusion),
        "confusion": confusion,
    }
