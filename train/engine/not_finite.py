"""Losses and gradients that are no finite numbers: what led to them is written down."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from minitransformer.files import write_json

FILE = "not-finite.json"


def record_not_finite(folder: Path, model: nn.Module, *, step: int, **figures: Any) -> Path:
    """Add a step to `not-finite.json`: its figures, and the weights that were not finite before it, if any."""
    path = folder / FILE
    # A run that went on from before a step takes it again.
    earlier = [entry for entry in _read(path) if entry["step"] < step]
    weights = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    # There is no scaling of losses: bfloat16 has float32's range.
    entry = {"step": step, **figures, "loss_scale": 1.0, "weights_not_finite": weights}
    write_json(path, [*earlier, {name: _sayable(value) for name, value in entry.items()}])
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [entry for entry in entries if isinstance(entry["step"], int)]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _sayable(value: Any) -> Any:
    """JSON has no infinities: they become strings."""
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    return [_sayable(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
