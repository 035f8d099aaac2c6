"""What exact match and BLEU share when results are shown: scores by group of pairs, tables and pictures."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from minitransformer.plots import AttentionExample, attention_grid, attention_heads, learning_curves
from train.engine.console import table

Reports = Mapping[str, Mapping[str, Any]]
"""The report of each model, by its name."""
History = Sequence[Mapping[str, Any]]
"""The evaluations during training, in order: step, seconds and scores of each."""
Groups = Mapping[str, Mapping[str, int | float]]
"""`count` and score of each group of pairs, as `by_group` returns them."""


def by_group(
    name: str,
    score: Callable[[Sequence[str], Sequence[str]], float],
    outputs: Sequence[str],
    references: Sequence[str],
    groups: Sequence[str],
) -> dict[str, dict[str, int | float]]:
    """The `count` of pairs in each group and their score, under its name; the largest group first."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    return {
        group: {"count": len(of), name: score([outputs[row] for row in of], [references[row] for row in of])}
        for group, of in sorted(rows.items(), key=lambda item: -len(item[1]))
    }


def groups_table(title: str, label: str, columns: Mapping[str, Groups], names: Iterable[str], score: str) -> Table:
    """A row for each named group, and a column with its score for each of `columns`."""
    first = next(iter(columns.values()))
    form = ".1%" if score == "exact_match" else ".1f"
    rows = [
        (name, f"{first[name]['count']:,}", *(format(column[name][score], form) for column in columns.values()))
        for name in names
    ]
    return table(title, (label, "pairs", *columns), rows)


def draw(
    models: Reports, examples: Sequence[tuple[str, str | None]], folder: Path, score: str, *, unit: str, of_unit: float
) -> None:
    """Write `learning_curves.png`, the score of every model against the time in a unit of so many seconds; and, of
    every model that has attention, maps over the same (source, reference) pairs.

    `attention.png` shows them side by side, and `heads-NAME.png` all heads over the last pair. A translation that
    differs from its reference is drawn in red, unless the reference is None.
    """
    curves = {
        name: [(0.0, 0.0)] + [(e["seconds"] / of_unit, e[score]) for e in report["validation"]]
        for name, report in models.items()
    }
    path, percent = folder / "learning_curves.png", score == "exact_match"
    ylabel = f"{'exact match' if percent else 'BLEU'} on validation pairs"
    learning_curves(curves, path, xlabel=f"training time, {unit}", ylabel=ylabel, percent=percent)
    maps: dict[str, list[AttentionExample]] = {}
    for name in models:
        translator = Translator.load(folder / name)
        if getattr(translator.model.config, "attention", None) == "none":
            continue
        for text, reference in examples:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is cut off or unknown was said with the scores
                output, source, target, weights = translator.attention_map(text)
            example = AttentionExample(weights.mean(dim=0), source, target, correct=reference in (None, output))
            maps.setdefault(name, []).append(example)
        if len(weights) > 1:
            draw_or_warn(attention_heads, weights, source, target, title=name, path=folder / f"heads-{name}.png")
    if maps:
        draw_or_warn(attention_grid, maps, path=folder / "attention.png")


def typical(lengths: Sequence[int], most: int, *, at_most: int) -> list[int]:
    """The places of the first of those whose length is nearest to the median, or to `at_most` if that is less. None is
    longer than that while there are shorter ones."""
    middle = min(at_most, median(lengths))
    return sorted(range(len(lengths)), key=lambda i: (lengths[i] > at_most, abs(lengths[i] - middle)))[:most]


def draw_or_warn(draw_picture: Callable[..., Path], *args: Any, path: Path, **options: Any) -> None:
    """Very long texts would make too large a picture: a warning says so, and the run goes on without it."""
    try:
        draw_picture(*args, path=path, **options)
    except InputError as error:
        warnings.warn(f"no {path.name}: {error}", stacklevel=2)
