"""What fine-tuning shows: accuracy beside the baselines, and which labels are mistaken for which."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from train.engine.run_figures import show_run

MOST_LABELS = 12
"""A larger confusion matrix does not fit on a terminal."""


def show(results: dict[str, Any], folder: Path, console: Console) -> None:
    rows = {f"{results['init']}, {results['pooling']} pooling": results, **results["baselines"]}
    count = sum(map(sum, results["confusion"]))
    table = Table(title=f"on the {count:,} {results['scored_on']} texts")
    table.add_column("model")
    for column in ("accuracy", "95% interval", "macro F1", "on validation"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        low, high = row["interval"]
        figures = f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", f"{row['macro_f1']:.1%}"
        table.add_row(name, *figures, f"{row['validation_accuracy']:.1%}")
    console.print(table)
    labels = results["labels"]
    if len(labels) <= MOST_LABELS:
        table = Table(title="true labels down, given labels across")
        table.add_column("")
        for label in labels:
            table.add_column(label, justify="right")
        for label, given in zip(labels, results["confusion"], strict=True):
            table.add_row(label, *map(str, given))
        console.print(table)
    show_run(results, folder, console, unit="texts")
