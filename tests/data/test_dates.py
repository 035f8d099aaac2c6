from collections import Counter

import pytest

from minitransformer.data.dates import date_pairs, format_of, locale_of
from minitransformer.data.locales import DATE_FORMATS
from minitransformer.errors import InputError

# One row of each kind in the file of the talk, and its count there.
TALK = {
    "friday october 20 1995": ("EEEE MMMM d y", 4218),
    "10 jul 1982": ("d MMM y", 1529),
    "november 4 1999": ("MMMM d y", 1180),
    "19 july 2011": ("d MMMM y", 1091),
    "3/9/16": ("M/d/yy", 417),
    "jul 2 1980": ("MMM d y", 409),
    "27 07 95": ("d MM yy", 408),
    "29.01.90": ("dd.MM.yy", 389),
    "1 may 1970": ("d 'may' y", 233),
    "may 1 1970": ("'may' d y", 126),
}


@pytest.fixture(scope="module")
def rows():
    return date_pairs(4000, seed=1)


def test_as_many_distinct_strings_as_asked_for_follow_from_the_seed(rows):
    assert len(rows) == len({human for human, _, _ in rows}) == 4000
    assert date_pairs(100, seed=1) == rows[:100] != date_pairs(100, seed=2)


def test_every_format_of_the_talk_is_recognised():
    assert {human: format_of(human) for human in TALK} == {human: name for human, (name, _) in TALK.items()}
    assert format_of("friday may 1 1970") == "EEEE MMMM d y"
    for text in ("", "1970-01-01", "2 foo 1999", "1 jul 99", "friday october 20 1995 "):
        assert format_of(text) == "other"


def test_formats_have_the_shares_they_have_in_the_talk(rows):
    counts = Counter(name for _, _, name in rows)
    for name, talk in TALK.values():
        assert counts[name] / len(rows) == pytest.approx(talk / 10_000, abs=0.03, rel=0.3)


def test_rows_look_as_the_talk_has_them(rows):
    text = " ".join(human for human, _, _ in rows)
    assert text == text.lower()
    assert "," not in text
    assert any(human.startswith("0") for human, _, name in rows if name == "d MMM y")
    assert not any(human.startswith("0") for human, _, name in rows if name in ("d MMMM y", "d MM yy"))


def test_every_possible_string_can_be_drawn_and_one_more_is_an_input_error():
    # Each of the 365 days in nine patterns, less what coincides: a day from the tenth in "d MMM y" and "dd MMM y",
    # and in May the short and long name ("d MMM y" = "d MMMM y", "MMM d y" = "MMMM d y").
    possible = 9 * 365 - (365 - 12 * 9) - 31 - 31
    year = {"first_year": 2001, "last_year": 2001}
    assert len(date_pairs(possible, **year)) == possible
    with pytest.raises(InputError, match=f"in {possible} ways only"):
        date_pairs(possible + 1, **year)


@pytest.mark.parametrize(
    "wrong",
    [
        {"locales": ("xx",)},
        {"locales": ("not a locale",)},
        {"first_year": 1900},
        {"first_year": 2000, "last_year": 1999},
    ],
)
def test_unusable_options_are_input_errors(wrong):
    with pytest.raises(InputError, match=str(next(iter(wrong.values()))).strip("(',)")):
        date_pairs(10, **wrong)


def test_a_format_that_two_locales_read_in_another_order_is_in_neither():
    rows = date_pairs(400, locales="en_US,es,de")
    names = {name for _, _, name in rows}
    assert names == {f"{name} {form}" for name in ("en_US", "es") for form in ("full", "long", "medium")} | {
        f"de {form}" for form in DATE_FORMATS
    }
    assert not any("/" in human for human, _, _ in rows)


def test_locales_have_equal_shares_whatever_formats_are_left_out():
    counts = Counter(locale_of(name) for _, _, name in date_pairs(3000, locales=["en_US", "es", "sr_Cyrl_BA"]))
    assert counts == {name: pytest.approx(1000, rel=0.1) for name in ("en_US", "es", "sr_Cyrl_BA")}
