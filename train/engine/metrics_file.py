"""What a run notes down: `metrics.jsonl`, a JSON object a line for every step and every evaluation, and
`not-finite.json`, the batches whose loss or gradient was not a finite number."""

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from minitransformer.errors import InputError
from minitransformer.files import atomic, open_regular, write_json
from minitransformer.untrusted import read_json

METRICS, NOT_FINITE = "metrics.jsonl", "not-finite.json"
MOST_RECORDED = 1000
"""The steps that it holds at the most: a longer file could not be read again."""


class MetricsFile:
    """Without a path nothing is written: of several processes, rank 0 writes.

    Lines stay in memory between evaluations: a write at every step would cost small models a tenth of their speed.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.waiting: list[str] = []

    def resume(self, step: int) -> None:
        """Drop the lines after `step`, the step of the checkpoint that the run resumes from, and damaged ones."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        open(self.path, "ab", opener=open_regular).close()  # a link is refused
        with atomic(self.path) as temporary, temporary.open("wb") as kept:
            kept.writelines(undamaged_lines(self.path, step))

    def write(self, place: Mapping[str, Any], **values: Any) -> None:
        """JSON has no infinities and no NaN: they become null."""
        line = {**place, **values}
        line |= {name: None for name, value in line.items() if isinstance(value, float) and not math.isfinite(value)}
        self.waiting.append(json.dumps(line) + "\n")

    def flush(self, *, to_disk: bool = False) -> None:
        """Write the lines; `to_disk`: wait until they are on disk, so that they survive a crash of the machine."""
        lines, self.waiting = self.waiting, []
        if self.path is None:
            return
        with open(self.path, "a", encoding="utf-8", opener=open_regular) as file:
            file.writelines(lines)
            file.flush()
            if to_disk:
                os.fsync(file.fileno())


def undamaged_lines(path: Path, step: int) -> Iterator[bytes]:
    """The lines up to `step`. After the last one, a warning counts the damaged lines and the steps without a line."""
    damaged, steps = 0, set[int]()
    if path.exists():
        with open(path, "rb", opener=open_regular) as file:
            for line in file:
                of_step = _step(line)
                # The last line is cut if the run was killed while it wrote: it is of a step that will be repeated.
                damaged += of_step is None and line.endswith(b"\n")
                if of_step is not None and of_step <= step:
                    steps.add(of_step)
                    yield line
    missing = step - len(steps)
    if damaged or missing > 0:
        warnings.warn(
            f"{path} was changed since the run wrote it: damaged lines, which do not count: {damaged:,}; steps "
            f"without a line: {missing:,} of {step:,}",
            stacklevel=2,
        )


def _step(line: bytes) -> int | None:
    """The step of a line; None if the line is damaged."""
    try:
        step = json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if type(step) is int and step > 0 else None


def record_not_finite(folder: Path, model: nn.Module, *, step: int, **figures: Any) -> Path:
    """Add to `not-finite.json` the step's figures, and the names of the weights that were not finite before it."""
    path = folder / NOT_FINITE
    # A resumed run repeats the steps after its checkpoint.
    earlier = [entry for entry in _read(path) if entry["step"] < step]
    weights = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    entry = {"step": step, **figures, "weights_not_finite": weights}
    if len(earlier) < MOST_RECORDED:
        write_json(path, [*earlier, {name: _as_json(value) for name, value in entry.items()}])
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return [entry for entry in read_json(path) if isinstance(entry["step"], int)]
    except (FileNotFoundError, InputError, KeyError, TypeError):
        return []


def _as_json(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become strings."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return [_as_json(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
