"""`results.json` of a finished run, read again: the file may be damaged, or from anyone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

from minitransformer.errors import InputError
from minitransformer.untrusted import read_json, shown
from train.engine.typed_json import misfits


def read_results(path: Path, needed: type, *, together: type | None = None) -> dict[str, Any]:
    """What the file holds: all that `needed` names, and all that `together` does or nothing of it; both are
    TypedDicts. `InputError` for anything else."""
    results = read_json(path)
    if not isinstance(results, dict):
        raise not_results(path, f"it is {shown(results)}")
    wrong = misfits(results, needed)
    if together is not None and results.keys() & get_type_hints(together):
        wrong += misfits(results, together)
    if wrong:
        raise not_results(path, f"it has {told(results, wrong)}")
    return results


def told(values: dict[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name}={shown(values.get(name))}" for name in names)


def not_results(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is not the results of such a run: {reason}; remove it to have them made anew")
