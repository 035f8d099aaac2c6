"""What pretraining a masked model shows: what was held out, and how much of it is restored."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from rich.console import Console
from rich.table import Table

from train.engine.results import read_results

NAMES = {"unigram": "the most frequent token", "neighbours": "the most frequent one between both neighbours"}


class Figures(TypedDict):
    loss: float
    accuracy: float


class Baselines(TypedDict):
    unigram: Figures
    neighbours: Figures


class Results(TypedDict):
    """What of them is shown; `TestResults` where a corpus has a test split."""

    objective: str
    masked_tokens: int
    validation_loss: float
    accuracy: float
    sentence_accuracy: NotRequired[float]
    baselines: Baselines
    parameters: int
    seconds: float
    steps: int
    tokens_per_second: float


class TestResults(TypedDict):
    test_masked_tokens: int
    test_loss: float
    test_accuracy: float
    test_sentence_accuracy: NotRequired[float]
    test_baselines: Baselines


def read_report(path: Path) -> dict[str, Any]:
    """The results of a finished run; `InputError` where the file holds something else."""
    return read_results(path, Results, together=TestResults)


def show(results: dict[str, Any], folder: Path, console: Console) -> None:
    for split, prefix in (("validation", ""), ("test", "test_")):
        if f"{split}_loss" not in results:
            continue
        table = Table(title=f"{results[f'{prefix}masked_tokens']:,} masked tokens of {split} text")
        for column in ("", "loss (nats)", "top-1 accuracy"):
            table.add_column(column, justify="right" if column else "left")
        table.add_row(results["objective"], f"{results[f'{split}_loss']:.3f}", f"{results[f'{prefix}accuracy']:.1%}")
        for name, title in NAMES.items():
            figures = results[f"{prefix}baselines"][name]
            table.add_row(title, f"{figures['loss']:.3f}", f"{figures['accuracy']:.1%}")
        console.print(table)
        if f"{prefix}sentence_accuracy" in results:
            console.print(f"pairs of sentences: {results[f'{prefix}sentence_accuracy']:.1%} right", highlight=False)
    console.print(
        f"{results['parameters']:,} parameters, {results['seconds']:.0f} s of training, {results['steps']:,} steps, "
        f"{results['tokens_per_second']:,.0f} tokens/s\nresults, model and tokenizer are in {folder}",
        highlight=False,
    )
