"""A model of dates in many languages beside dateparser, a library of rules, on the same test strings.

python -m train.translate --data dates --locales all --models transformer --out runs/locales
python -m train.compare_dates --run runs/locales                needs pip install 'minitransformer[test]'
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from minitransformer.data import load
from minitransformer.data.dates import locale_of
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.pipelines.translator import Translator
from minitransformer.untrusted import read_json
from train.engine.console import wide_console
from train.translate.by_locale import show_worst, write_by_locale
from train.translate.scoring import exact_match, exact_match_by_group


@dataclass(frozen=True)
class CompareDatesSettings:
    """Score a run's model and dateparser on the first test pairs of each locale.

    dateparser has to find the language by itself, as the model does, and is then told it, where it knows it.
    """

    run: Path
    """A run folder of train.translate --data dates --locales ..."""
    model: str = "transformer"
    """Which of its models."""
    pairs: int = 5
    """Test pairs of each locale: dateparser takes many milliseconds for one."""


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        compare(tyro.cli(CompareDatesSettings, args=arguments, prog="python -m train.compare_dates"), wide_console())


def compare(settings: CompareDatesSettings, console: Console) -> dict[str, Any]:
    """Writes `dateparser.json` and `dateparser.csv` into the run's folder, and returns what is in the former."""
    if settings.pairs < 1:
        raise InputError(f"--pairs {settings.pairs} must be at least 1")
    if importlib.util.find_spec("dateparser") is None:
        raise InputError("dateparser is not installed: pip install 'minitransformer[test]'")
    locales = _locales_of_run(settings.run)
    test = load("dates", locales=locales)["test"]
    chosen = first_of_each([locale_of(name) for name in test["format"]], settings.pairs)
    rows = test.select(chosen)
    sources, targets = list(rows["source"]), list(rows["target"])
    names = [locale_of(name) for name in rows["format"]]
    console.print(f"{len(rows):,} test pairs, up to {settings.pairs} of each of {len(set(names))} locales")

    outputs, milliseconds = {}, {}
    translator = Translator.load(settings.run / settings.model)
    readers: dict[str, Callable[[], list[str]]] = {
        "dateparser": lambda: [read_date(text) for text in sources],
        "dateparser, told": lambda: [read_date(text, name) for text, name in zip(sources, names, strict=True)],
        settings.model: lambda: translator(sources, max_new_tokens=20),
    }
    for reader, read in readers.items():
        began = time.perf_counter()
        outputs[reader] = read()
        milliseconds[reader] = 1000 * (time.perf_counter() - began) / len(rows)

    known = [known_to_dateparser(name) is not None for name in names]
    results: dict[str, Any] = {
        "pairs": len(rows),
        "pairs_in_known_locales": sum(known),
        "locales": len(set(names)),
        "known_locales": len({name for name, is_known in zip(names, known, strict=True) if is_known}),
        "readers": {},
    }
    for reader, texts in outputs.items():
        in_known = [(o, t) for o, t, is_known in zip(texts, targets, known, strict=True) if is_known]
        results["readers"][reader] = {
            "exact_match": exact_match(texts, targets),
            "exact_match_in_known_locales": exact_match(*zip(*in_known, strict=True)) if in_known else None,
            "milliseconds_a_string": milliseconds[reader],
            "by_locale": exact_match_by_group(texts, targets, names),
        }
    columns = {reader: report["by_locale"] for reader, report in results["readers"].items()}
    write_json(settings.run / "dateparser.json", results)
    write_by_locale(columns, settings.run / "dateparser.csv")
    show_worst(columns, console)
    show(results, console)
    console.print(f"all locales are in {settings.run / 'dateparser.csv'}")
    return results


def _locales_of_run(folder: Path) -> str:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} is no run of train.translate: it has no config.json")
    config = read_json(path)
    if not isinstance(config, dict) or config.get("data") != "dates" or not isinstance(config.get("locales"), str):
        raise InputError(f"{folder} is no run of train.translate --data dates --locales ...: see its config.json")
    return config["locales"]


def first_of_each(groups: Sequence[str], most: int) -> list[int]:
    """The rows that are among the first `most` of their group, in order."""
    seen: dict[str, int] = {}
    rows = []
    for row, group in enumerate(groups):
        seen[group] = seen.get(group, 0) + 1
        if seen[group] <= most:
            rows.append(row)
    return rows


def read_date(text: str, locale: str | None = None) -> str:
    """The ISO date that dateparser reads, in a given locale if it knows it, or ""."""
    import dateparser

    read = dateparser.parse(text, **((known_to_dateparser(locale) if locale else None) or {}))
    return "" if read is None else read.date().isoformat()


def known_to_dateparser(locale: str) -> dict[str, list[str]] | None:
    """What to tell dateparser of a locale of CLDR: that locale or its language; None if it knows neither."""
    from dateparser.data.languages_info import language_locale_dict

    name = locale.replace("_", "-")
    if any(name in locales for locales in language_locale_dict.values()):
        return {"locales": [name]}
    while name:
        if name in language_locale_dict:
            return {"languages": [name]}
        name = name.rpartition("-")[0]
    return None


def show(results: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{results['pairs']:,} test pairs; dateparser knows {results['known_locales']} of the locales")
    for column in ("", "exact match", "where dateparser knows the language", "ms a string"):
        table.add_column(column, justify="right" if column else "left")
    for reader, report in results["readers"].items():
        in_known = report["exact_match_in_known_locales"]
        table.add_row(
            reader,
            f"{report['exact_match']:.1%}",
            "" if in_known is None else f"{in_known:.1%}",
            f"{report['milliseconds_a_string']:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
