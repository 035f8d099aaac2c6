"""Locales of CLDR and how each writes a date, by Babel."""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from minitransformer.errors import InputError

if TYPE_CHECKING:
    from babel import Locale

DATE_FORMATS = ("full", "long", "medium", "short")
"""The lengths that CLDR gives dates in."""

# One day of each month and, among them, each day of the week; some days have one digit and some have two.
_PROBES = tuple(date(2013, month, 2 * month + 1) for month in range(1, 13))

# The zeros of CLDR's decimal numbering systems: Babel knows the names of the systems, but not their digits.
_ZERO = {
    "adlm": "\N{ADLAM DIGIT ZERO}",
    "arab": "\N{ARABIC-INDIC DIGIT ZERO}",
    "arabext": "\N{EXTENDED ARABIC-INDIC DIGIT ZERO}",
    "beng": "\N{BENGALI DIGIT ZERO}",
    "cakm": "\N{CHAKMA DIGIT ZERO}",
    "deva": "\N{DEVANAGARI DIGIT ZERO}",
    "hmnp": "\N{NYIAKENG PUACHUE HMONG DIGIT ZERO}",
    "mtei": "\N{MEETEI MAYEK DIGIT ZERO}",
    "mymr": "\N{MYANMAR DIGIT ZERO}",
    "nkoo": "\N{NKO DIGIT ZERO}",
    "olck": "\N{OL CHIKI DIGIT ZERO}",
    "tibt": "\N{TIBETAN DIGIT ZERO}",
}


def locale_names(locales: str | Sequence[str]) -> list[str]:
    """`locales` as a list without repetitions. They are names, a string of names with commas between, or "all"."""
    if locales == "all":
        return list(all_locales())
    names = locales.split(",") if isinstance(locales, str) else locales
    names = list(dict.fromkeys(name.strip() for name in names))
    if not names or not all(names):
        raise InputError(f"locales={locales!r}: name at least one, with commas between (de,fr_CA), or all")
    for name in names:
        parse_locale(name)
    return names


@cache
def all_locales() -> tuple[str, ...]:
    """Every locale of CLDR whose long date names the month, in alphabetical order.

    See `names_the_month`. Of locales that write every date alike in all four formats (fr and fr_BF; fr and ht, which
    has no data of its own), only the one with the shortest name is included, and of equally short names the first.
    """
    from babel import localedata

    locales = {name: parse_locale(name) for name in localedata.locale_identifiers()}
    kept: dict[tuple[str, ...], str] = {}
    for name in sorted(locales, key=lambda name: (len(name), name)):
        if names_the_month(locales[name]):
            dates = tuple(write_date(day, form, name) for form in DATE_FORMATS for day in _PROBES)
            kept.setdefault(dates, name)
    return tuple(sorted(kept.values()))


def names_the_month(locale: "Locale") -> bool:
    """Whether the long date of each month contains the locale's own name of that month, wide or abbreviated.

    A name has a letter and differs from the name in CLDR's root locale ("M09"): "9月" is one, "09" is not.
    """
    from babel.dates import format_date

    months, inherited = locale.months, _root_months()
    for day in _PROBES:
        text = format_date(day, "long", locale=locale)
        names = _names(months, day.month) - _names(inherited, day.month)
        if not any(name in text and any(map(str.isalpha, name)) for name in names):
            return False
    return True


def _names(months: Mapping[str, Any], month: int) -> set[str]:
    return {months[context][width][month] for context in months for width in ("wide", "abbreviated")}


@cache
def _root_months() -> Mapping[str, Any]:
    from babel import localedata

    root: Any = deepcopy(localedata.load("root"))
    return localedata.LocaleDataDict(root)["months"]


def write_date(day: date, form: str, locale: str) -> str:
    """`day` in the format `form`, one of `DATE_FORMATS` or a pattern of CLDR, in lower case and without commas.

    Digits are those of the locale's default numbering system (Babel itself writes 0 to 9 everywhere); the calendar is
    the Gregorian one.
    """
    from babel.dates import format_date

    parsed = parse_locale(locale)
    text = format_date(day, form, locale=parsed).lower()
    if (zero := _ZERO.get(parsed.default_numbering_system)) is not None:
        text = text.translate({ord("0") + digit: ord(zero) + digit for digit in range(10)})
    return re.sub("[,،]", "", text)


@cache
def parse_locale(name: str) -> "Locale":
    """The locale of this name. `InputError` if Babel does not know it.

    Babel resolves aliases in a locale's data at the first use, and by mistake also in the data that later locales
    inherit. So this function loads the data, and all locales are parsed before one is used.
    """
    from babel import Locale, UnknownLocaleError, localedata

    try:
        locale = Locale.parse(name)
        localedata.load(str(locale))
        return locale
    except (UnknownLocaleError, ValueError) as error:
        raise InputError(f"locale {name!r} is not one that Babel knows (such as en, de, fr_CA)") from error


def unambiguous(styles: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The (format, locale) `styles` without any two that contradict each other.

    Two styles contradict each other if their dates look alike but have day, month and year in another order, as 3/9/16
    in English and in Spanish. A year of four digits or the name of a month shows its place.
    """
    orders: dict[str, set[tuple[str, ...]]] = {}
    found = {}
    for form, locale in styles:
        found[form, locale] = looks, order = _order(form, locale)
        orders.setdefault(looks, set()).add(order)
    return [style for style, (looks, _) in found.items() if len(orders[looks]) == 1]


def _order(form: str, locale: str) -> tuple[str, tuple[str, ...]]:
    """A date with # for each number except a year of four digits, and the numbers in their order."""
    text = write_date(date(2045, 11, 23), form, locale)
    numbers = re.findall(r"\d+", text)
    looks = re.sub(r"\d+", lambda number: number[0] if len(number[0]) == 4 else "#", text)
    return looks, tuple(str(int(number)) for number in numbers)
