"""Dates as people write them, and their ISO form: the talk's task, generated with Babel (CLDR)."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from itertools import accumulate

from minitransformer.data.locales import DATE_FORMATS, locale_names, unambiguous, write_date
from minitransformer.errors import InputError

# Weights are 24ths of the rows; the counts in the talk's file differ from these shares only by chance. Some patterns
# give the same text: "may" is both the short and the long name of its month, and padding of the day shows only before
# the tenth. The ten formats are those that the text alone distinguishes.
_ENGLISH = {
    "EEEE MMMM d y": 10.0,  # friday october 20 1995
    "d MMM y": 2.0,  # 4 jul 1982, 1 may 1970
    "dd MMM y": 2.0,  # 04 jul 1982, 01 may 1970
    "MMMM d y": 3.0,  # november 4 1999, may 1 1970
    "d MMMM y": 3.0,  # 19 july 2011, 1 may 1970
    "M/d/yy": 1.0,  # 3/9/16
    "MMM d y": 1.0,  # jul 2 1980, may 1 1970
    "d MM yy": 1.0,  # 27 07 95
    "dd.MM.yy": 1.0,  # 29.01.90
}

_WEEKDAY = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_LONG = "(?:january|february|march|april|june|july|august|september|october|november|december)"
_SHORT = "(?:jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)"
_FORMATS = {
    "EEEE MMMM d y": rf"{_WEEKDAY} (?:{_LONG}|may) \d\d? \d{{4}}",
    "d MMM y": rf"\d\d? {_SHORT} \d{{4}}",
    "MMMM d y": rf"{_LONG} \d\d? \d{{4}}",
    "d MMMM y": rf"\d\d? {_LONG} \d{{4}}",
    "M/d/yy": r"\d\d?/\d\d?/\d\d",
    "MMM d y": rf"{_SHORT} \d\d? \d{{4}}",
    "d MM yy": r"\d\d? \d\d \d\d",
    "dd.MM.yy": r"\d\d\.\d\d\.\d\d",
    "d 'may' y": r"\d\d? may \d{4}",
    "'may' d y": r"may \d\d? \d{4}",
}


def date_pairs(
    count: int = 10_000,
    *,
    seed: int = 0,
    first_year: int = 1970,
    last_year: int = 2018,
    locales: str | Sequence[str] = ("en",),
) -> list[tuple[str, str, str]]:
    """`count` rows (human, ISO, format). No human string occurs twice, so none has two dates.

    "en" has the talk's ten formats in the talk's proportions. Any other locale ("de", "en_GB") has its own CLDR full,
    long, medium and short formats, named "de full" and so on. Locales have equal shares; "all" is `all_locales()`.
    Strings are in lower case, without commas, in the locale's digits.

    A format is left out if another locale has one that looks the same but orders day, month and year differently
    (3/9/16, see `unambiguous`). Names of months can still be ambiguous: "mar" is March in dozens of languages and May
    in Teso. Such a string keeps the date drawn first.
    """
    if not 1 <= first_year <= last_year <= 9999:
        raise InputError(f"first_year={first_year}, last_year={last_year}: years must ascend and lie in 1 to 9999")
    if last_year - first_year >= 100:
        raise InputError(
            f"first_year={first_year}, last_year={last_year} span more than 100 years, "
            "so that a two-digit year would stand for two dates"
        )
    names = locale_names(locales)
    weights = _weights(names)
    days = range(date(first_year, 1, 1).toordinal(), date(last_year, 12, 31).toordinal() + 1)
    generator = random.Random(seed)
    # Each style has its own random order of the days and uses each day once, so that drawing ends for any `count`.
    # With a thousand styles, each needs only some of the days.
    days_each = min(len(days), 1_000_000 // len(weights))
    undrawn = {style: generator.sample(days, days_each) for style in weights}
    styles, cumulative = list[tuple[str, str]](), list[float]()
    rows: dict[str, tuple[str, str, str]] = {}
    while len(rows) < count:
        if not undrawn:
            raise InputError(
                f"count={count}, but the years {first_year} to {last_year} in {_few(names)} "
                f"can be written in {len(rows)} ways only"
            )
        if len(cumulative) != len(undrawn):
            styles, cumulative = list(undrawn), list(accumulate(weights[style] for style in undrawn))
        style = generator.choices(styles, cum_weights=cumulative)[0]
        day = date.fromordinal(undrawn[style].pop())
        if not undrawn[style]:
            del undrawn[style]
        pattern, locale = style
        human = write_date(day, pattern, locale)
        name = format_of(human) if locale == "en" else f"{locale} {pattern}"
        rows.setdefault(human, (human, day.isoformat(), name))
    return list(rows.values())


def _weights(locales: Sequence[str]) -> dict[tuple[str, str], float]:
    """The weight of each (pattern, locale). Those of a locale add up to 24, for "en" without the ambiguous ones'."""
    kept = unambiguous((pattern, name) for name in locales for pattern in (_ENGLISH if name == "en" else DATE_FORMATS))
    forms = Counter(name for _, name in kept)
    return {(form, name): _ENGLISH[form] if name == "en" else 24 / forms[name] for form, name in kept}


def _few(names: Sequence[str]) -> str:
    return f"locales {', '.join(names)}" if len(names) <= 10 else f"{len(names)} locales"


def locale_of(name: str) -> str:
    """The locale of a row by its format's name: "de" of "de full", "en" of the talk's own."""
    locale, _, form = name.rpartition(" ")
    return locale if form in DATE_FORMATS else "en"


def format_of(text: str) -> str:
    """Which of the ten English formats `text` is written in, or "other"."""
    return next((name for name, shape in _FORMATS.items() if re.fullmatch(shape, text)), "other")
