import re
from pathlib import Path
from typing import Any, Literal

import pytest

from minitransformer import InputError
from minitransformer.checks import fits, require_number, type_name


@pytest.mark.parametrize(
    ("annotation", "fitting", "unfitting"),
    [
        (int, [0, -(10**5000)], [True, 1.0, "1", None]),
        (float, [0.5, 1, float("nan")], [True, "1.0", 10**400, None]),
        (bool, [True], [1, 0.0, None]),
        (str, ["", "a"], [b"a", 1]),
        (Path, [Path("a")], ["a"]),
        (Any, [None, object()], []),
        (None, [None], [0, ""]),
        (int | None, [1, None], [1.5, False]),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0]),
        (list[int], [[], [1]], [(1,), [True], [1, "2"]]),
        (tuple[int, str], [(1, "a"), [1, "a"]], [(1,), ("a", 1), "1a"]),
        (tuple[int, ...], [(), (1, 2), [1]], [(1, "2"), 1]),
        (tuple, [(), (1, "a")], ["ab", 1]),
        (dict[str, float], [{}, {"a": 1}], [{1: 1.0}, {"a": None}, []]),
        (dict, [{1: 2}], [[]]),
    ],
    ids=lambda value: None if isinstance(value, list) else type_name(value),
)
def test_values_fit_annotations(annotation, fitting, unfitting):
    assert all(fits(value, annotation) for value in fitting)
    assert not any(fits(value, annotation) for value in unfitting)


@pytest.mark.parametrize(
    ("name", "value", "bounds", "message"),
    [
        ("--lr", 0, {"more_than": 0}, "--lr 0 must be more than 0"),
        ("dropout", 2, {"at_least": 0, "at_most": 1}, "dropout=2 must be at least 0 and at most 1"),
        ("--seed", 2**32, {"at_least": 0, "less_than": 2**32}, "--seed 4294967296 must be at least 0 and less than"),
        ("x", float("nan"), {}, "x=nan must be a finite number"),
        ("x", float("inf"), {"at_least": 0}, "x=inf must be a finite number"),
        ("x", float("nan"), {"at_least": 0}, "x=nan must be at least 0"),
        ("huge", 10**5000, {"less_than": 3}, "huge=a number of thousands of digits must be less than 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_outside_the_bounds_are_refused_by_name(name, value, bounds, message):
    with pytest.raises(InputError, match=re.escape(message)):
        require_number(name, value, **bounds)


def test_bounds_are_as_named():
    require_number("x", None, at_least=1)
    require_number("x", 10**5000)
    require_number("x", 0, at_least=0, at_most=0)
    for bounds in ({"more_than": 0}, {"less_than": 0}):
        with pytest.raises(InputError):
            require_number("x", 0, **bounds)
