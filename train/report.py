"""What a comparison shows: tables on the terminal, learning curves and attention maps in the run folder."""

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
from rich.console import Console
from rich.table import Table

from minitransformer.data.dates import format_of
from minitransformer.errors import InputError
from minitransformer.plots import AttentionExample, attention_grid, attention_heads, learning_curves
from minitransformer.translation import Translator


def draw(models: Mapping[str, Any], test_split: datasets.Dataset, folder: Path) -> None:
    """Learning curves, and the attention of every model over the same test examples."""
    curves = {
        name: [(0.0, 0.0)] + [(e["seconds"], e["exact_match"]) for e in report["validation"]]
        for name, report in models.items()
    }
    learning_curves(
        curves,
        folder / "learning_curves.png",
        xlabel="training time, seconds",
        ylabel="exact match on validation pairs",
    )
    examples = chosen_examples(test_split)
    maps: dict[str, list[AttentionExample]] = {}
    for name in models:
        translator = Translator.load(folder / name)
        if getattr(translator.model.config, "attention", None) == "none":
            continue
        for row in examples:
            text, source, target, weights = translator.attention_map(row["source"])
            example = AttentionExample(weights.mean(dim=0), source, target, correct=text == row["target"])
            maps.setdefault(name, []).append(example)
        if len(weights) > 1:
            draw_or_warn(attention_heads, weights, source, target, title=name, path=folder / f"heads-{name}.png")
    if maps:
        draw_or_warn(attention_grid, maps, path=folder / "attention.png")


def draw_or_warn(draw_picture: Callable[..., Path], *args: Any, path: Path, **options: Any) -> None:
    """A picture of very long texts would be too large; the figures it goes with are written all the same."""
    try:
        draw_picture(*args, path=path, **options)
    except InputError as error:
        warnings.warn(f"no {path.name}: {error}", stacklevel=2)


def chosen_examples(split: datasets.Dataset, most: int = 4) -> list[dict[str, str]]:
    """The first test pair of each of the commonest date formats; the first pairs where they are no dates."""
    by_format: dict[str, list[dict[str, str]]] = {}
    for source, target in zip(split["source"], split["target"], strict=True):
        by_format.setdefault(format_of(source), []).append({"source": source, "target": target})
    if len(by_format) == 1:
        return next(iter(by_format.values()))[:most]
    return [rows[0] for rows in sorted(by_format.values(), key=len, reverse=True)[:most]]


def wide_console() -> Console:
    """Standard output; where that is no terminal, wide enough for the tables.

    Labels and paths are printed as they are: "[b]" or ":car:" in one is no markup.
    """
    return Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)


def show(models: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The table of results, and exact match by date format where there are dates."""
    table = Table(title="on the test pairs")
    table.add_column("model")
    for column in ("parameters", "exact match", "characters", "seconds to 99%", "training seconds", "target tokens/s"):
        table.add_column(column, justify="right")
    for name, report in models.items():
        to_99 = report["seconds_to_99"]
        table.add_row(
            name,
            f"{report['parameters']:,}",
            f"{report['exact_match']:.2%}",
            f"{report['character_accuracy']:.2%}",
            "not reached" if to_99 is None else f"{to_99:.1f}",
            f"{report['seconds']:.1f}",
            f"{report['tokens_per_second']:,.0f}",
        )
    console.print(table)
    formats = next(iter(models.values())).get("by_format", {})
    if formats:
        table = Table(title="exact match by format")
        for column in ("format", "pairs", *models):
            table.add_column(column, justify="left" if column == "format" else "right")
        for name, first in formats.items():
            shares = (f"{report['by_format'][name]['exact_match']:.1%}" for report in models.values())
            table.add_row(name, f"{first['count']:.0f}", *shares)
        console.print(table)
