"""The locales of CLDR that dates can be written in, and how each of them writes one (Babel)."""

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

# CLDR's numbering systems that count in tens, which Babel knows the names of but not the digits.
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
    """`locales` as a list without repetitions: names, or a string of them with commas between, or "all"."""
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

    A long date names the month if the locale's own name for it, wide or abbreviated, stands in it in each of the
    twelve months: a name has a letter and is not that of CLDR's root ("M09"). "9月" is one; "09" is not. Of locales
    that write every date alike in all four formats (fr and fr_BF; fr and ht, which has no data of its own) only the
    one with the shortest name is there, and of equally short ones the first.
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
    """Whether the long date of each month has the month's name in it, in letters and not inherited from the root."""
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
    """Raises `InputError` for a name that Babel does not know.

    Where a locale's data points to other data, Babel follows when it is read, and puts what it finds into the data that
    locales loaded later inherit, wrongly. So all locales that are to be used are parsed first, and loaded here.
    """
    from babel import Locale, UnknownLocaleError, localedata

    try:
        locale = Locale.parse(name)
        localedata.load(str(locale))
        return locale
    except (UnknownLocaleError, ValueError) as error:
        raise InputError(f"locale {name!r} is not one that Babel knows (such as en, de, fr_CA)") from error


def unambiguous(styles: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the (format, locale) `styles` that no other of them contradicts.

    Two contradict each other if their dates look alike but have day, month and year in another order, as 3/9/16 has in
    English and in Spanish. Both are left out then. A year of four digits shows where it is, and so does a month's name.
    """
    orders: dict[str, set[tuple[str, ...]]] = {}
    found = {}
    for form, locale in styles:
        found[form, locale] = looks, order = _order(form, locale)
        orders.setdefault(looks, set()).add(order)
    return [style for style, (looks, _) in found.items() if len(orders[looks]) == 1]


def _order(form: str, locale: str) -> tuple[str, tuple[str, ...]]:
    """What a date looks like, with # for each number (but a year of four digits), and what the numbers are."""
    text = write_date(date(2045, 11, 23), form, locale)
    numbers = re.findall(r"\d+", text)
    looks = re.sub(r"\d+", lambda number: number[0] if len(number[0]) == 4 else "#", text)
    return looks, tuple(str(int(number)) for number in numbers)
