"""Whether a value that was read as JSON is of the type that a field declares: files may come from anyone."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict


def fits(value: Any, hint: Any) -> bool:
    """A TypedDict names keys that a value has to have, among others."""
    if hint is Any:
        return True
    if is_typeddict(hint):
        return isinstance(value, dict) and not misfits(value, hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if arguments:
        return any(fits(value, alternative) for alternative in arguments)
    if hint is float:  # JSON writes 1.0 as 1, too; an integer of 400 digits becomes no float
        return type(value) is float or (type(value) is int and abs(value) < 1 << 1000)
    return isinstance(value, Path) if hint is Path else type(value) is hint


def misfits(values: dict[str, Any], kind: Any) -> list[str]:
    """The keys of the TypedDict `kind` that are missing in `values` or of another type there."""
    return [
        name
        for name, hint in get_type_hints(kind).items()
        if not (fits(values[name], hint) if name in values else name in kind.__optional_keys__)
    ]
