"""Checks of values that a user or a file gave: against a type annotation, and against bounds."""

import dataclasses
import numbers
import operator
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from minitransformer.errors import InputError
from minitransformer.untrusted import shown

LARGEST = 1 << 1000
"""Larger integers do not convert to float: Python's have any number of digits."""


def fits(value: Any, annotation: Any) -> bool:
    """Whether `value` is of the annotated type, nested types included.

    An integer is accepted for a float and a list for a tuple, because JSON writes them so; a bool is not a number.
    """
    if annotation is Any:
        return True
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind in (Union, types.UnionType):
        return any(fits(value, alternative) for alternative in arguments)
    if kind is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if kind is tuple:
        if not isinstance(value, list | tuple) or not arguments:
            return isinstance(value, list | tuple)
        items = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(value) == len(items) and all(map(fits, value, items))
    if kind is list and arguments:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if kind is dict and arguments:
        return isinstance(value, dict) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    if kind is float:
        return isinstance(value, float) or (type(value) is int and abs(value) < LARGEST)
    if kind is Callable:
        return callable(value)
    return value is None if kind is None else isinstance(value, kind) and not (kind is int and type(value) is bool)


def type_name(annotation: Any) -> str:
    """The annotation as a message shows it: "int or None"."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(map(type_name, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    if annotation in (None, type(None)):
        return "None"
    return str(annotation).removeprefix("typing.") if get_args(annotation) else getattr(annotation, "__name__", "Any")


def choices(annotation: Any) -> list[str]:
    """The words that a `Literal` accepts, alone or in a union; none for another type."""
    if get_origin(annotation) is Literal:
        return list(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        parts = get_args(annotation)
        words = [word for part in parts for word in choices(part)]
        return [*words, "None"] if words and type(None) in parts else words
    return []


_BOUNDS = {"more_than": operator.gt, "at_least": operator.ge, "less_than": operator.lt, "at_most": operator.le}


@dataclass(frozen=True)
class Range:
    """The numbers that a flag takes, in the annotation of its field: `rate: Annotated[float, Range(more_than=0)]`."""

    more_than: int | float | None = None
    at_least: int | float | None = None
    less_than: int | float | None = None
    at_most: int | float | None = None


def require_number(shown_name: str, value: int | float | None, **bounds: int | float | None) -> None:
    """Raises `InputError` for a number that is not finite or is outside the bounds. None passes. The bounds have the
    names of the fields of `Range`.

    `shown_name` is what the user calls the value: "--lr" gives "--lr 0 must be more than 0", and "dropout" gives
    "dropout=2 must be at least 0 and at most 1".
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{shown_name}={shown(value)} must be a number")
    given = f"{shown_name}{' ' if shown_name.startswith('-') else '='}{shown(value)}"
    limits = {name: bound for name, bound in bounds.items() if bound is not None}
    if not all(_BOUNDS[name](value, bound) for name, bound in limits.items()):
        wanted = [f"{name.replace('_', ' ')} {bound}" for name, bound in limits.items()]
        raise InputError(f"{given} must be {' and '.join(wanted)}")
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{given} must be a finite number")


def require_given(**values: Any) -> None:
    """`InputError` for None where there is no default to stand for it."""
    if missing := [name for name, value in values.items() if value is None]:
        raise InputError(f"{', '.join(missing)} cannot be None: give a number, or leave it out for the default, if any")


def require_whole(shown_name: str, value: int | None, **bounds: int | float | None) -> None:
    """`require_number` for integers."""
    require_number(shown_name, value, **bounds)
    if value is not None and not isinstance(value, numbers.Integral):
        raise InputError(f"{shown_name}={shown(value)} must be a whole number")


Count = Annotated[int, Range(more_than=0, at_most=2**31 - 1)]
CountOrZero = Annotated[int, Range(at_least=0, at_most=2**31 - 1)]
Seed = Annotated[int, Range(at_least=0, less_than=2**32)]
Share = Annotated[float, Range(at_least=0, less_than=1)]


def flag_name(field: str) -> str:
    """The flag of a field, as a user types it."""
    return f"--{field.replace('_', '-')}"


def require_ranges(options: Any) -> None:
    """`InputError` for a number in a dataclass of flags that is not finite, or outside the `Range` of its field."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            bounds = next(_ranges(hints[field.name]), Range())
            require_number(flag_name(field.name), value, **vars(bounds))


def _ranges(annotation: Any) -> Iterator[Range]:
    for part in get_args(annotation):
        if isinstance(part, Range):
            yield part
        else:
            yield from _ranges(part)
