"""Checks of files that may come from strangers, and of what they hold."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError
from minitransformer.files import require_regular

MOST_JSON_BYTES = 64_000_000
"""Published tokenizers have at most 35 MB."""
MOST_NESTED = 64
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises `InputError` for a file that is not JSON, too large, too deeply nested or a link out of its folder, and for
    a key given twice in an object, of which readers take different values.
    """
    require_sane_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    # ValueError includes bytes that are not UTF-8 and numbers of more than 4,300 digits.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    level = [value]
    for _ in range(MOST_NESTED + 1):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return value
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    raise InputError(f"{path} is refused: its JSON is nested more than {MOST_NESTED} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise InputError(f"it gives {shown(key)} twice")
        values[key] = value
    return values


def require_sane_file(path: Path, most_bytes: int | None = MOST_JSON_BYTES) -> None:
    """`InputError` for what is no regular file, has more than `most_bytes`, or is a link out of its folder: a
    stranger's folder must not choose which files of this machine are read. Links from a snapshot to blobs in the hub's
    cache are allowed."""
    folder, target = Path(os.path.realpath(path.parent)), Path(os.path.realpath(path))  # `resolve` fails on loops
    blobs = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder
    if not (target.is_relative_to(folder) or target.is_relative_to(blobs)):
        raise InputError(f"{path} is a link to {target}, outside its folder, and is refused: copy the file there")
    require_regular(path)
    if most_bytes is not None and (size := path.stat().st_size) > most_bytes:
        raise InputError(f"{path} is refused: it has {size:,} bytes, and such files have at most {most_bytes:,}")


def pickle_refused(path: Path, instead: str) -> InputError:
    """The error to raise for a pickle, which executes its content."""
    return InputError(f"{path} is refused: it is a pickle, which can run any code when it is read; {instead}")


def shown(value: Any) -> str:
    """A value for an error message: one line of at most 200 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


@contextmanager
def damage_refused(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turns what a library raises for a damaged file (`errors`, a `ValueError`, an `OSError` without a number, a panic
    of the tokenizers library, which is no `Exception`) into an `InputError`. Errors of the operating system, which have
    a number, stay as they are."""
    kinds: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
    try:
        yield
    except BaseException as error:
        foreign = isinstance(error, kinds) or type(error).__name__ == "PanicException"
        if not foreign or isinstance(error, InputError) or getattr(error, "errno", None) is not None:
            raise
        raise InputError(f"{what}: {' '.join(str(error).split())[:300]}") from error


def memory_bytes() -> int:
    """The machine's memory; a huge number if the operating system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
