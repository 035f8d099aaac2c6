"""What pretraining a masked model shows: how well held-out tokens are restored, beside two baselines."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from train.pretrain.bert.counting_baselines import TITLES
from train.pretrain.report import show_run


def show(results: dict[str, Any], folder: Path, console: Console) -> None:
    for split, prefix in (("validation", ""), ("test", "test_")):
        if f"{split}_loss" not in results:
            continue
        table = Table(title=f"{results[f'{prefix}masked_tokens']:,} masked tokens of {split} text")
        for column in ("", "loss (nats)", "top-1 accuracy"):
            table.add_column(column, justify="right" if column else "left")
        table.add_row(results["objective"], f"{results[f'{split}_loss']:.3f}", f"{results[f'{prefix}accuracy']:.1%}")
        for name, title in TITLES.items():
            figures = results[f"{prefix}baselines"][name]
            table.add_row(title, f"{figures['loss']:.3f}", f"{figures['accuracy']:.1%}")
        console.print(table)
        if f"{prefix}sentence_accuracy" in results:
            console.print(f"pairs of sentences: {results[f'{prefix}sentence_accuracy']:.1%} right", highlight=False)
    show_run(results, folder, console)
