"""How well predicted labels agree with the true ones, and how that is shown beside the baselines."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from train.engine.console import table
from train.engine.results import show_run

MOST_COUNTED = 100
"""Of more labels no confusion matrix is kept: of 5,000 it would take 225 MB."""
MOST_SHOWN = 12
"""A larger confusion matrix does not fit on a terminal."""


def wilson_interval(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% confidence interval of a share (Wilson 1927)."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At 0 and 1 an end is the share itself, which rounding must not pass.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def scores(predicted: Sequence[int], true: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """`accuracy` with its `interval` and the `texts` it is of; `macro_f1`; `confused`, the pairs of labels that are
    mistaken most often; and `confusion`, how many texts of each true label (rows) were given each label (columns).

    Macro F1 is the mean over labels of F1 = 2 hits / (given + true), without labels that are neither given nor true.
    `confusion` is None for more than 100 labels.
    """
    guesses, truths, count = np.asarray(predicted), np.asarray(true), len(names)
    right = guesses == truths
    hits, given, present = (np.bincount(of, minlength=count) for of in (truths[right], guesses, truths))
    any_ = given + present > 0
    pairs, times = np.unique(truths[~right] * count + guesses[~right], return_counts=True)
    most = np.argsort(-times, kind="stable")[:10]
    matrix = np.bincount(truths * count + guesses, minlength=count * count) if count <= MOST_COUNTED else None
    return {
        "accuracy": float(right.mean()),
        "interval": wilson_interval(int(right.sum()), len(truths)),
        "texts": len(truths),
        "macro_f1": float((2 * hits[any_] / (given + present)[any_]).mean()),
        "confused": [
            {"label": names[pair // count], "given": names[pair % count], "texts": int(number)}
            for pair, number in zip(pairs[most].tolist(), times[most], strict=True)
        ],
        "confusion": None if matrix is None else matrix.reshape(count, count).tolist(),
    }


def show(results: dict[str, Any], folder: Path, console: Console) -> None:
    """Accuracy beside the baselines, and which labels are mistaken for which."""
    rows = {f"{results['init']}, {results['pooling']} pooling": results, **results["baselines"]}
    columns = ("model", "accuracy", "95% interval", "macro F1", "on validation")
    scored = []
    for name, row in rows.items():
        low, high = row["interval"]
        figures = f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", f"{row['macro_f1']:.1%}"
        scored.append((name, *figures, f"{row['validation_accuracy']:.1%}"))
    console.print(table(f"on the {results['texts']:,} {results['scored_on']} texts", columns, scored))
    labels = results["labels"]
    if len(labels) <= MOST_SHOWN:
        counts = ((label, *map(str, given)) for label, given in zip(labels, results["confusion"], strict=True))
        console.print(table("true labels down, given labels across", ("", *labels), counts))
    elif results["confused"]:
        confused = ((row["label"], row["given"], f"{row['texts']:,}") for row in results["confused"])
        console.print(table("labels mistaken most often", ("label", "given", "texts"), confused))
    show_run(results, folder, console, unit="texts")


def shown_labels(names: Sequence[str]) -> str:
    """The names of some labels, and how many there are if that is not all."""
    return ", ".join(names[:MOST_SHOWN]) + (f", ... ({len(names):,} labels)" if len(names) > MOST_SHOWN else "")
