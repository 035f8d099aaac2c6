"""Whether a value that was read as JSON is of the type that a field declares: files may come from anyone."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict


def fits(value: Any, hint: Any) -> bool:
    """Of a TypedDict, the keys that it names; there may be more."""
    if hint is Any:
        return True
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        return isinstance(value, dict) and all(name in value and fits(value[name], hints[name]) for name in hints)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if arguments:
        return any(fits(value, alternative) for alternative in arguments)
    if hint is float:
        return type(value) in (int, float)
    return isinstance(value, Path) if hint is Path else type(value) is hint
