"""A model of dates in many languages beside dateparser, a library of rules, on the same test strings.

python -m train.translate --data dates --locales all --models transformer --out runs/locales
python -m train.compare_dates --run runs/locales                needs pip install 'minitransformer[test]'
"""

import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from minitransformer.checks import Count, require_ranges
from minitransformer.data import load
from minitransformer.data.dates import locale_of
from minitransformer.errors import InputError
from minitransformer.files import require_place_for, write_json
from minitransformer.pipelines.translator import Translator
from minitransformer.reporting import reported_to_user
from minitransformer.untrusted import read_json
from train.engine.console import table, wide_console
from train.engine.flags_file import settings_of, write_flags
from train.engine.settings import Configurable
from train.translate.data import limit_of_the_data
from train.translate.exact_match import exact_match, worst_locales, write_by_locale
from train.translate.reports import by_group


@dataclass(frozen=True)
class CompareDatesSettings(Configurable):
    """Score a run's model and dateparser on the first test pairs of each locale.

    dateparser is scored twice: it finds the language by itself, as the model does, and it is given the locale, if it
    knows it.
    """

    run: Path = tyro.MISSING
    """A run folder of train.translate --data dates --locales ..."""
    model: str = "transformer"
    """One of the run's models."""
    pairs: Count = 5
    """Test pairs of each locale: dateparser takes many milliseconds for one."""


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        compare(settings_of(CompareDatesSettings, "compare_dates", arguments), wide_console())


def compare(settings: CompareDatesSettings, console: Console) -> None:
    """Write `dateparser.json`, `dateparser.csv` and the flags into the run's folder."""
    require_ranges(settings)
    if importlib.util.find_spec("dateparser") is None:
        raise InputError("dateparser is not installed: pip install 'minitransformer[test]'")
    written = [settings.run / f"dateparser.{kind}" for kind in ("json", "csv", "toml")]
    for path in written:
        require_place_for(path)
    test = load("dates", locales=locales_of(settings.run))["test"]
    rows = test.select(first_of_each([locale_of(name) for name in test["format"]], settings.pairs))
    sources, targets = list(rows["source"]), list(rows["target"])
    locales = [locale_of(name) for name in rows["format"]]
    known = [known_to_dateparser(locale) is not None for locale in locales]
    console.print(f"{len(rows):,} test pairs, up to {settings.pairs} of each of {len(set(locales))} locales")

    translator = Translator.load(settings.run / settings.model)
    readers: dict[str, Callable[[], list[str]]] = {
        "dateparser": lambda: [read_date(text) for text in sources],
        "dateparser, told": lambda: [read_date(text, locale) for text, locale in zip(sources, locales, strict=True)],
        settings.model: lambda: translator(sources),
    }
    reports: dict[str, dict[str, Any]] = {}
    for reader, read in readers.items():
        began = time.perf_counter()
        with limit_of_the_data():
            dates = read()
        seconds = time.perf_counter() - began
        in_known = [pair for *pair, is_known in zip(dates, targets, known, strict=True) if is_known]
        reports[reader] = {
            "exact_match": exact_match(dates, targets),
            "exact_match_in_known_locales": exact_match(*zip(*in_known, strict=True)) if in_known else None,
            "milliseconds_a_string": 1000 * seconds / len(rows),
            "by_locale": by_group("exact_match", exact_match, dates, targets, locales),
        }
    results = {
        "pairs": len(rows),
        "pairs_in_known_locales": sum(known),
        "locales": len(set(locales)),
        "known_locales": len({locale for locale, is_known in zip(locales, known, strict=True) if is_known}),
        "readers": reports,
    }
    by_locale = {reader: report["by_locale"] for reader, report in reports.items()}
    write_json(written[0], results)
    write_by_locale(by_locale, written[1])
    write_flags(written[2], settings, "compare_dates")
    console.print(worst_locales(by_locale))
    console.print(readers_table(results))
    console.print(f"all locales are in {settings.run / 'dateparser.csv'}")


def locales_of(run: Path) -> str:
    """The --locales that a run of `train.translate` was started with."""
    path = run / "config.json"
    config = read_json(path)
    if not isinstance(config, dict) or config.get("data") != "dates" or not isinstance(config.get("locales"), str):
        raise InputError(f"{run} is not a run of train.translate --data dates --locales ...: see its config.json")
    return config["locales"]


def first_of_each(groups: Sequence[str], most: int) -> list[int]:
    """The indices of the first `most` rows of each group, in order."""
    seen, rows = Counter[str](), list[int]()
    for row, group in enumerate(groups):
        seen[group] += 1
        if seen[group] <= most:
            rows.append(row)
    return rows


def read_date(text: str, locale: str | None = None) -> str:
    """The ISO date that dateparser finds, or "". It is given `locale` if it knows it."""
    import dateparser

    read = dateparser.parse(text, **((known_to_dateparser(locale) if locale else None) or {}))
    return "" if read is None else read.date().isoformat()


def known_to_dateparser(locale: str) -> dict[str, list[str]] | None:
    """The arguments that name a CLDR locale, or its language, to dateparser; None if it knows neither."""
    from dateparser.data.languages_info import language_locale_dict

    name = locale.replace("_", "-")
    if any(name in locales for locales in language_locale_dict.values()):
        return {"locales": [name]}
    while name:
        if name in language_locale_dict:
            return {"languages": [name]}
        name = name.rpartition("-")[0]
    return None


def readers_table(results: dict[str, Any]) -> Table:
    rows = []
    for reader, report in results["readers"].items():
        in_known = report["exact_match_in_known_locales"]
        shown = "" if in_known is None else f"{in_known:.1%}"
        rows.append((reader, f"{report['exact_match']:.1%}", shown, f"{report['milliseconds_a_string']:.1f}"))
    title = f"{results['pairs']:,} test pairs; dateparser knows {results['known_locales']} of the locales"
    return table(title, ("", "exact match", "where dateparser knows the language", "ms a string"), rows)


if __name__ == "__main__":
    main()
