"""`not-finite.json`: the batches whose loss or gradient was not a finite number."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from minitransformer.files import write_json

FILE = "not-finite.json"


def record_not_finite(folder: Path, model: nn.Module, *, step: int, **figures: Any) -> Path:
    """Add an entry: the step's figures, and the names of the weights that were not finite before it."""
    path = folder / FILE
    # A resumed run repeats the steps after its checkpoint.
    earlier = [entry for entry in _read(path) if entry["step"] < step]
    weights = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    # Losses are not scaled: bfloat16 has float32's range.
    entry = {"step": step, **figures, "loss_scale": 1.0, "weights_not_finite": weights}
    write_json(path, [*earlier, {name: _as_json(value) for name, value in entry.items()}])
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [entry for entry in entries if isinstance(entry["step"], int)]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _as_json(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become strings."""
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    return [_as_json(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
