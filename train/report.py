"""What a comparison shows: tables on the terminal, learning curves and attention maps in the run folder."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from rich.console import Console

from train import report_matches, report_sentences


def wide_console() -> Console:
    """Standard output; where that is no terminal, wide enough for the tables.

    Labels and paths are printed as they are: "[b]" or ":car:" in one is no markup.
    """
    return Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)


def show(models: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The tables of the results by model: what equals its reference, or BLEU where the reports have it."""
    tables = report_sentences.tables if _holds_bleu(models) else report_matches.tables
    for table in tables(models):
        console.print(table)


def draw(models: Mapping[str, Any], test_split: datasets.Dataset, folder: Path) -> None:
    """Learning curves, and the attention of every model over the same test examples, as PNG files."""
    (report_sentences.draw if _holds_bleu(models) else report_matches.draw)(models, test_split, folder)


def _holds_bleu(models: Mapping[str, Mapping[str, Any]]) -> bool:
    return all("bleu" in report for report in models.values())
