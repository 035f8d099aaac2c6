"""Accuracy by locale: the worst on the terminal, all of them in a file."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from minitransformer.files import atomic

ByLocale = Mapping[str, Mapping[str, int | float]]
"""By locale: `count` and `exact_match`, as `exact_match_by_group` has them."""


def write_by_locale(columns: Mapping[str, ByLocale], path: Path) -> None:
    """A table with a row a locale, in alphabetical order, and the share of exact matches in a column for each of
    `columns`, which have the same locales and pairs."""
    first = next(iter(columns.values()))
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["locale", "pairs", *columns])
        for locale in sorted(first):
            shares = (f"{column[locale]['exact_match']:.4f}" for column in columns.values())
            writer.writerow([locale, int(first[locale]["count"]), *shares])


def show_worst(columns: Mapping[str, ByLocale], console: Console, *, most: int = 20) -> None:
    """The locales in which the last of `columns` is right least often."""
    *_, last = columns.values()
    worst = sorted(last, key=lambda locale: (last[locale]["exact_match"], locale))[:most]
    perfect = sum(row["exact_match"] == 1 for row in last.values())
    table = Table(title=f"exact match by locale, worst first; {perfect} of {len(last)} perfect")
    for column in ("locale", "pairs", *columns):
        table.add_column(column, justify="left" if column == "locale" else "right")
    for locale in worst:
        shares = (f"{column[locale]['exact_match']:.1%}" for column in columns.values())
        table.add_row(locale, f"{last[locale]['count']:.0f}", *shares)
    console.print(table)


def report_by_locale(models: Mapping[str, Mapping[str, Any]], folder: Path, console: Console) -> None:
    """Both, for the models of a run that have a `by_locale`: the file is `by_locale.csv` in `folder`."""
    columns = {name: report["by_locale"] for name, report in models.items() if "by_locale" in report}
    if columns:
        write_by_locale(columns, folder / "by_locale.csv")
        show_worst(columns, console)
