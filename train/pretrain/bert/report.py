"""What pretraining a masked model shows: how well held-out tokens are restored, beside two baselines."""

from typing import Any

from rich.console import Console
from rich.table import Table

from train.pretrain.bert.counting_baselines import TITLES


def show_split(split: str, objective: str, figures: dict[str, Any], console: Console) -> None:
    """`figures` are the results on one split."""
    table = Table("", title=f"{figures['masked_tokens']:,} masked tokens of {split} text")
    for column in ("loss (nats)", "top-1 accuracy"):
        table.add_column(column, justify="right")
    rows = {objective: figures, **{title: figures["baselines"][name] for name, title in TITLES.items()}}
    for name, row in rows.items():
        table.add_row(name, f"{row['loss']:.3f}", f"{row['accuracy']:.1%}")
    console.print(table)
    if "sentence_accuracy" in figures:
        console.print(f"pairs of sentences: {figures['sentence_accuracy']:.1%} right", highlight=False)
