import re
import unicodedata
from datetime import date, timedelta

import pytest
import regex
from babel import Locale, localedata
from babel.core import get_global
from babel.dates import format_date

from minitransformer.data.locales import (
    DATE_FORMATS,
    all_locales,
    locale_names,
    names_the_month,
    parse_locale,
    unambiguous,
    write_date,
)
from minitransformer.errors import InputError


@pytest.fixture(scope="module")
def everywhere():
    return all_locales()


def scripts_of(name):
    """What CLDR says the locale is written in: ISO 15924 codes, Japanese and Korean being mixtures."""
    parsed = Locale.parse(name)
    likely = get_global("likely_subtags")
    full = likely.get(f"{parsed.language}_{parsed.territory}") or likely.get(parsed.language, "")
    code = parsed.script or next((part for part in full.split("_") if len(part) == 4), None)
    mixtures = {"Jpan": "Hani", "Kore": "Hang", "Hans": "Hani", "Hant": "Hani"}
    return mixtures.get(code, code)


def test_hundreds_of_locales_in_dozens_of_scripts_name_the_month(everywhere):
    # The number grows with CLDR; what is there today stays.
    assert len(everywhere) >= 350
    assert {"en", "de", "de_AT", "fr", "fr_CA", "ja", "zh", "ru", "ar", "fa", "hi", "ko", "th", "ka"} < set(everywhere)
    assert len({scripts_of(name) for name in everywhere}) >= 40


def test_each_locale_names_the_month_in_its_own_script(everywhere):
    for name in everywhere:
        letter = regex.compile(rf"\p{{Script={scripts_of(name)}}}")
        months = parse_locale(name).months
        for month in range(1, 13):
            text = write_date(date(2013, month, 20), "long", name)
            names = {months[context][width][month] for context in months for width in ("wide", "abbreviated")}
            written = [word for word in (re.sub("[,،]", "", each.lower()) for each in names) if word in text]
            assert any(letter.search(word) for word in written), (name, text, names)


def test_locales_with_nothing_but_the_roots_month_numbers_are_left_out(everywhere):
    for name in ("wa", "ba", "nv"):
        assert re.fullmatch(r"2013 M09 8", format_date(date(2013, 9, 8), "long", locale=name))
        assert not names_the_month(parse_locale(name))
        assert name not in everywhere


def test_no_two_locales_write_every_date_alike_and_each_left_out_has_a_twin(everywhere):
    days = [date(2013, 1, 1) + timedelta(days=16 * step) for step in range(23)]

    def year(name):
        return tuple(write_date(day, form, name) for form in DATE_FORMATS for day in days)

    years = {year(name) for name in everywhere}
    assert len(years) == len(everywhere)
    for name in ("fr_FR", "fr_BF", "en_GB_OXENDICT", "de_DE", "zh_Hans_CN", "es_ES"):
        if name in localedata.locale_identifiers():
            assert year(name) in years


def test_a_locale_read_before_does_not_change_what_a_later_one_writes():
    # Babel lets what it finds for "wa" slip into what "yo" inherits, if "yo" is loaded later.
    assert locale_names(["wa", "yo"]) == ["wa", "yo"]
    assert write_date(date(2013, 9, 8), "long", "wa") == "2013 m09 8"
    assert write_date(date(2013, 9, 8), "long", "yo") == "8 oṣù owewe 2013"


def test_digits_are_those_of_the_locales_numbering_system(everywhere):
    assert write_date(date(2013, 9, 8), "long", "fa") == "۸ سپتامبر ۲۰۱۳"
    assert write_date(date(2013, 9, 8), "long", "mr") == "८ सप्टेंबर २०१३"
    assert write_date(date(2013, 9, 8), "long", "hi") == "8 सितंबर 2013"
    years = ("282013", "201328", "2892013", "2013928")  # "tháng 9" and "9月" are names with a number in them
    for name in everywhere:
        latin = Locale.parse(name).default_numbering_system == "latn"
        text = write_date(date(2013, 9, 28), "long", name)
        digits = [character for character in text if character.isdecimal()]
        assert all((digit in "0123456789") == latin for digit in digits), (name, text)
        assert "".join(str(unicodedata.decimal(digit)) for digit in digits) in years


def test_formats_that_look_alike_in_another_order_are_left_out():
    styles = [("short", "en_US"), ("short", "es"), ("short", "de"), ("long", "en_US"), ("short", "sv")]
    assert unambiguous(styles) == [("short", "de"), ("long", "en_US"), ("short", "sv")]
    assert unambiguous(styles[:1] + styles[2:]) == styles[:1] + styles[2:]
    assert unambiguous([("dd/MM/yy", "en"), ("yy/MM/dd", "en")]) == []
    # Four digits show which number is the year.
    assert len(unambiguous([("dd/MM/y", "en"), ("y/MM/dd", "en")])) == 2


def test_lists_of_locales_are_read_and_unknown_ones_refused():
    assert locale_names("de, fr_CA,de") == ["de", "fr_CA"]
    assert locale_names("all") == list(all_locales())
    for wrong in ("", [], "de,,fr", "de,klingon", ["xx"]):
        with pytest.raises(InputError):
            locale_names(wrong)


def test_hardly_any_string_of_any_locale_has_two_dates():
    days = [date(2013, month, 17) for month in range(1, 13)]
    dates: dict[str, set[date]] = {}
    styles = [(form, name) for name in all_locales() for form in DATE_FORMATS]
    for form, name in unambiguous(styles):
        for day in days:
            dates.setdefault(write_date(day, form, name), set()).add(day)
    ambiguous = [text for text, meant in dates.items() if len(meant) > 1]
    assert len(ambiguous) / len(dates) < 0.005
    # Not even those without a month's name, with which a quarter of the formats would be.
    assert all(re.search(r"\D{3}", text) for text in ambiguous)
