"""Exact match, for short strings such as dates: how it is computed, watched, reported, shown and drawn."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
from rich.table import Table

from minitransformer.data.dates import format_of, locale_of
from minitransformer.files import atomic
from train.engine.console import table
from train.translate.reports import Groups, History, Reports, by_group, draw, groups_table, typical

MAP_LETTERS = 40
"""The most letters of strings whose attention is drawn, if there are such."""


def exact_match(outputs: Sequence[str], references: Sequence[str]) -> float:
    """The share of outputs that equal their reference."""
    return sum(o == r for o, r in zip(outputs, references, strict=True)) / len(references)


def character_accuracy(outputs: Sequence[str], references: Sequence[str]) -> float:
    """The share of characters that equal the reference's at the same place; missing and surplus ones are wrong."""
    pairs = list(zip(outputs, references, strict=True))
    right = sum(a == b for output, reference in pairs for a, b in zip(output, reference, strict=False))
    return right / max(1, sum(max(len(output), len(reference)) for output, reference in pairs))


@dataclass(frozen=True)
class ExactMatch:
    """The measure of a comparison on short strings. Dates are reported by format too, or by locale."""

    by_locale: bool = False

    name: ClassVar[str] = "exact_match"
    beam: ClassVar[int] = 1
    """Default of --beam."""
    average: ClassVar[int] = 1
    """Default of --average."""
    extra_tokens: ClassVar[int] = 10
    """As for `Bleu`; an evaluation of an untrained model, which ends no translation, takes half the time that 50 do."""

    def watched(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """The score during training."""
        return exact_match(outputs, references)

    def report(
        self, pairs: datasets.Dataset, outputs: Sequence[str], train_sources: Iterable[str], history: History
    ) -> dict[str, Any]:
        """The scores of a trained model on `pairs`, for which its outputs are given."""
        references = list(pairs["target"])
        report: dict[str, Any] = {
            "exact_match": exact_match(outputs, references),
            "character_accuracy": character_accuracy(outputs, references),
        }
        formats = [format_of(text) for text in pairs["source"]]
        if self.by_locale:
            locales = [locale_of(name) for name in pairs["format"]]
            report["by_locale"] = by_group(self.name, exact_match, outputs, references, locales)
        elif set(formats) != {"other"}:
            report["by_format"] = by_group(self.name, exact_match, outputs, references, formats)
        return {**report, "seconds_to_99": next((e["seconds"] for e in history if e["exact_match"] >= 0.99), None)}

    def tables(self, models: Reports) -> Iterator[Table]:
        """A row a model; then exact match by format or by locale, a column a model."""
        columns = ("parameters", "exact match", "characters", "seconds to 99%", "training seconds", "target tokens/s")
        first = next(iter(models.values()))
        rows = []
        for name, report in models.items():
            to_99 = report["seconds_to_99"]
            row = (
                name,
                f"{report['parameters']:,}",
                f"{report['exact_match']:.2%}",
                f"{report['character_accuracy']:.2%}",
                "not reached" if to_99 is None else f"{to_99:.1f}",
                f"{report['seconds']:.1f}",
                f"{report['tokens_per_second']:,.0f}",
            )
            rows.append(row)
        yield table(f"on the {first['scored_on']} pairs", ("model", *columns), rows)
        if "by_format" in first:
            columns_of, names = by_model(models, "by_format"), first["by_format"]
            yield groups_table("exact match by format", "format", columns_of, names, self.name)
        if "by_locale" in first:
            yield worst_locales(by_model(models, "by_locale"))

    def draw(self, models: Reports, pairs: datasets.Dataset, folder: Path) -> None:
        """Write exact match against seconds and the attention of every model over the same pairs, as pictures; and
        `by_locale.csv`."""
        draw(models, chosen_examples(pairs), folder, self.name, unit="seconds", of_unit=1.0)
        if self.by_locale:
            write_by_locale(by_model(models, "by_locale"), folder / "by_locale.csv")


def by_model(models: Reports, key: str) -> dict[str, Groups]:
    return {name: report[key] for name, report in models.items()}


def worst_locales(columns: Mapping[str, Groups], *, most: int = 20) -> Table:
    """The locales in which the last of `columns` is right least often."""
    *_, last = columns.values()
    worst = sorted(last, key=lambda locale: (last[locale]["exact_match"], locale))[:most]
    perfect = sum(row["exact_match"] == 1 for row in last.values())
    title = f"exact match by locale, worst first; {perfect} of {len(last)} perfect"
    return groups_table(title, "locale", columns, worst, "exact_match")


def write_by_locale(columns: Mapping[str, Groups], path: Path) -> None:
    """A row for each locale, in alphabetical order, with its share of exact matches in each of `columns`, which were
    scored on the same pairs."""
    first = next(iter(columns.values()))
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["locale", "pairs", *columns])
        for locale in sorted(first):
            shares = (f"{column[locale]['exact_match']:.4f}" for column in columns.values())
            writer.writerow([locale, int(first[locale]["count"]), *shares])


def chosen_examples(pairs: datasets.Dataset, most: int = 4) -> list[tuple[str, str]]:
    """The first pair of each of the commonest date formats; of strings that are not dates, some of typical length."""
    by_format: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for source, target in zip(pairs["source"], pairs["target"], strict=True):
        by_format[format_of(source)].append((source, target))
    if len(by_format) == 1:
        [found] = by_format.values()
        return [found[i] for i in typical([len(source) for source, _ in found], most, at_most=MAP_LETTERS)]
    return [found[0] for found in sorted(by_format.values(), key=len, reverse=True)[:most]]
