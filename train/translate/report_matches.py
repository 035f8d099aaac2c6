"""What a comparison on short strings such as dates shows: how many outputs equal their reference."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import datasets
from rich.table import Table

from minitransformer.data.dates import format_of
from minitransformer.pipelines.translator import Translator
from minitransformer.plots import learning_curves
from train.translate.attention_pictures import draw_attention


class Group(TypedDict):
    count: float
    exact_match: float


class Evaluation(TypedDict):
    seconds: float
    exact_match: float


class Report(TypedDict):
    """What of a model's results is shown."""

    parameters: int
    exact_match: float
    character_accuracy: float
    seconds_to_99: float | None
    seconds: float
    tokens_per_second: float
    scored_on: NotRequired[str]
    by_format: NotRequired[dict[str, Group]]
    by_locale: NotRequired[dict[str, Group]]
    validation: list[Evaluation]


def groups(report: Mapping[str, Any]) -> frozenset[str]:
    """What reports have to have in common, to stand in one table: their formats."""
    return frozenset(report.get("by_format", ()))


def tables(models: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """The table of results, and exact match by date format where there are dates."""
    split = next(iter(models.values())).get("scored_on", "test")
    table = Table(title=f"on the {split} pairs")
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
    yield table
    formats = next(iter(models.values())).get("by_format", {})
    if formats:
        table = Table(title="exact match by format")
        for column in ("format", "pairs", *models):
            table.add_column(column, justify="left" if column == "format" else "right")
        for name, first in formats.items():
            shares = (f"{report['by_format'][name]['exact_match']:.1%}" for report in models.values())
            table.add_row(name, f"{first['count']:.0f}", *shares)
        yield table


def draw(models: Mapping[str, Any], test_split: datasets.Dataset, folder: Path) -> None:
    """Exact match against seconds, and the attention of every model over the same test examples."""
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
    examples = [(row["source"], row["target"]) for row in chosen_examples(test_split)]
    draw_attention({name: Translator.load(folder / name) for name in models}, examples, folder)


def chosen_examples(split: datasets.Dataset, most: int = 4) -> list[dict[str, str]]:
    """The first test pair of each of the commonest date formats; the first pairs where they are no dates."""
    by_format: dict[str, list[dict[str, str]]] = {}
    for source, target in zip(split["source"], split["target"], strict=True):
        by_format.setdefault(format_of(source), []).append({"source": source, "target": target})
    if len(by_format) == 1:
        return next(iter(by_format.values()))[:most]
    return [rows[0] for rows in sorted(by_format.values(), key=len, reverse=True)[:most]]
