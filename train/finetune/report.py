"""What fine-tuning shows: accuracy beside the baselines, and which labels are mistaken for which."""

from pathlib import Path
from typing import Any

from rich.console import Console

from train.engine.console import table
from train.engine.run_figures import show_run

MOST_LABELS = 12
"""A larger confusion matrix does not fit on a terminal."""


def show(results: dict[str, Any], folder: Path, console: Console) -> None:
    rows = {f"{results['init']}, {results['pooling']} pooling": results, **results["baselines"]}
    count = sum(map(sum, results["confusion"]))
    columns = ("model", "accuracy", "95% interval", "macro F1", "on validation")
    scored = []
    for name, row in rows.items():
        low, high = row["interval"]
        figures = f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", f"{row['macro_f1']:.1%}"
        scored.append((name, *figures, f"{row['validation_accuracy']:.1%}"))
    console.print(table(f"on the {count:,} {results['scored_on']} texts", columns, scored))
    labels = results["labels"]
    if len(labels) <= MOST_LABELS:
        counts = ((label, *map(str, given)) for label, given in zip(labels, results["confusion"], strict=True))
        console.print(table("true labels down, given labels across", ("", *labels), counts))
    show_run(results, folder, console, unit="texts")
