"""Files that a stranger may have written: what is checked before anything in them is believed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError

MOST_JSON_BYTES = 200_000_000
"""The largest tokenizers that are published have 35 MB."""
MOST_NESTED = 64
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def read_json(path: Path) -> Any:
    """The value in a JSON file. `InputError` for a file that is none, for one that is too large, too deep or a link out
    of its folder, and for an object that gives one key twice, of which every reader believes another value."""
    require_sane_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    # A byte that is not UTF-8 and a number of 5,000 digits are other ValueErrors than the parser's own.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    level = [value]
    for _ in range(MOST_NESTED):
        if not level:
            return value
        level = [child for node in level for child in _children(node)]
    raise InputError(f"{path} is not valid JSON of ours: it is nested more than {MOST_NESTED} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise InputError(f"it gives {shown(key)} twice")
        values[key] = value
    return values


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def require_sane_file(path: Path, most_bytes: int | None = MOST_JSON_BYTES) -> None:
    """`InputError` for a file with more bytes, or one that is a link out of its folder: a folder from elsewhere must
    not choose which other files of this machine are read. The hub's cache, where a snapshot links to blobs, may."""
    folder, target = path.parent.resolve(), path.resolve()
    blobs = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder
    if not (target.is_relative_to(folder) or target.is_relative_to(blobs)):
        raise InputError(f"{path} is a link to {target}, out of its folder: it is refused; put the file itself there")
    if most_bytes is not None and (size := path.stat().st_size) > most_bytes:
        raise InputError(f"{path} has {size:,} bytes, more than the {most_bytes:,} of any such file: it is refused")


def pickle_refused(path: Path, instead: str) -> InputError:
    """What to raise for a file that is read by running what stands in it."""
    return InputError(f"{path} is refused: it is a pickle, which can run any code when it is read; {instead}")


def shown(value: Any) -> str:
    """A value for an error message, in one line, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


@contextmanager
def panics_refused(what: str) -> Iterator[None]:
    """A panic of the tokenizers library, which is no `Exception`, as an `InputError`, like all else that it raises."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C
        raise InputError(f"{what}: {' '.join(str(error).split())[:300]}") from error


def memory_bytes() -> int:
    """The machine's memory, or a number that nothing exceeds where it is not told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
