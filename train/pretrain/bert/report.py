"""What pretraining a masked model shows: how well held-out tokens are restored, beside two baselines."""

from typing import Any

from rich.console import Console

from train.engine.console import table
from train.pretrain.bert.counting_baselines import TITLES


def show_split(split: str, objective: str, figures: dict[str, Any], console: Console) -> None:
    """`figures` are the results on one split."""
    rows = {objective: figures, **{title: figures["baselines"][name] for name, title in TITLES.items()}}
    shown = ((name, f"{row['loss']:.3f}", f"{row['accuracy']:.1%}") for name, row in rows.items())
    title = f"{figures['masked_tokens']:,} masked tokens of {split} text"
    console.print(table(title, ("", "loss (nats)", "top-1 accuracy"), shown))
    if "sentence_accuracy" in figures:
        console.print(f"pairs of sentences: {figures['sentence_accuracy']:.1%} right", highlight=False)
