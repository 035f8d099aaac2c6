"""Dates as people write them, and their ISO form: the talk's task, generated with Babel (CLDR)."""

import random
import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from minitransformer.errors import InputError


class _Style(NamedTuple):
    """One way to write a date."""

    locale: str
    pattern: str
    weight: int
    format: str
    format_in_may: str


# The weights are 24ths of the rows; the counts in the talk's file are these shares, but for chance. The written form
# does not tell all patterns apart: "may" is both the short and the long name of its month, and only days before the
# tenth show whether they are padded. So the ten formats are what can be told apart.
_ENGLISH = (
    _Style("en", "EEEE MMMM d y", 10, "EEEE MMMM d y", "EEEE MMMM d y"),  # friday october 20 1995
    _Style("en", "d MMM y", 2, "d MMM y", "d 'may' y"),  # 4 jul 1982, 1 may 1970
    _Style("en", "dd MMM y", 2, "d MMM y", "d 'may' y"),  # 04 jul 1982, 01 may 1970
    _Style("en", "MMMM d y", 3, "MMMM d y", "'may' d y"),  # november 4 1999, may 1 1970
    _Style("en", "d MMMM y", 3, "d MMMM y", "d 'may' y"),  # 19 july 2011, 1 may 1970
    _Style("en", "M/d/yy", 1, "M/d/yy", "M/d/yy"),  # 3/9/16
    _Style("en", "MMM d y", 1, "MMM d y", "'may' d y"),  # jul 2 1980, may 1 1970
    _Style("en", "d MM yy", 1, "d MM yy", "d MM yy"),  # 27 07 95
    _Style("en", "dd.MM.yy", 1, "dd.MM.yy", "dd.MM.yy"),  # 29.01.90
)

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
    locales: Sequence[str] = ("en",),
) -> list[tuple[str, str, str]]:
    """`count` rows (human, ISO, format), no human string twice, so none has two dates.

    "en" is the talk's ten formats in the talk's proportions. Any other locale ("de", "en_GB") is written in its own
    CLDR full, long, medium and short formats, named "de full" and so on; locales have equal shares. All is lower case
    and without commas. A string that two locales read differently keeps the date drawn first.
    """
    from babel.dates import format_date

    if not 1 <= first_year <= last_year <= 9999:
        raise InputError(f"first_year={first_year}, last_year={last_year}: years must ascend and lie in 1 to 9999")
    if last_year - first_year >= 100:
        raise InputError(
            f"first_year={first_year}, last_year={last_year} span more than 100 years, "
            "so that a two-digit year would stand for two dates"
        )
    styles = [style for locale in dict.fromkeys(locales) for style in _styles(locale)]
    days = range(date(first_year, 1, 1).toordinal(), date(last_year, 12, 31).toordinal() + 1)
    generator = random.Random(seed)
    # Each style meets each day once, in an order of its own, so that drawing ends even if `count` asks for all of them.
    undrawn = {style: generator.sample(days, len(days)) for style in styles}
    rows: dict[str, tuple[str, str, str]] = {}
    while len(rows) < count:
        if not undrawn:
            raise InputError(
                f"count={count}, but the years {first_year} to {last_year} in locales {', '.join(locales)} "
                f"can be written in {len(rows)} ways only"
            )
        style = generator.choices(list(undrawn), weights=[style.weight for style in undrawn])[0]
        day = date.fromordinal(undrawn[style].pop())
        if not undrawn[style]:
            del undrawn[style]
        human = re.sub("[,،]", "", format_date(day, style.pattern, locale=style.locale).lower())
        name = style.format_in_may if day.month == 5 else style.format
        rows.setdefault(human, (human, day.isoformat(), name))
    return list(rows.values())


def _styles(locale: str) -> Sequence[_Style]:
    from babel import Locale, UnknownLocaleError

    if locale == "en":
        return _ENGLISH
    try:
        Locale.parse(locale)
    except (UnknownLocaleError, ValueError) as error:
        raise InputError(f"locale {locale!r} is not one that Babel knows (such as en, de, fr_CA)") from error
    return [
        _Style(locale, name, 6, f"{locale} {name}", f"{locale} {name}") for name in ("full", "long", "medium", "short")
    ]


def format_of(text: str) -> str:
    """Which of the ten English formats `text` is written in, or "other"."""
    return next((name for name, shape in _FORMATS.items() if re.fullmatch(shape, text)), "other")
