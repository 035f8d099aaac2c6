"""What a run notes down: `metrics.jsonl`, a JSON object a line for every step and every evaluation, and
`not-finite.json`, the batches whose loss or gradient was not a finite number."""

import hashlib
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from minitransformer.errors import InputError
from minitransformer.files import atomic, open_regular, write_json
from minitransformer.untrusted import read_json

METRICS, NOT_FINITE = "metrics.jsonl", "not-finite.json"
SCORES = "validation_"
"""The prefix of an evaluation's scores."""
MOST_RECORDED = 1000
"""The steps that it holds at the most: a longer file could not be read again."""


class MetricsFile:
    """Without a path nothing is written: of several processes, rank 0 writes.

    Lines stay in memory between evaluations: a write at every step would cost small models a tenth of their speed.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.waiting: list[str] = []
        self.checksum = ""
        """Of all lines so far, see `chained`."""

    def resume(self, step: int, evaluations: int, checksum: str, *, from_step: int = 0) -> None:
        """Drop damaged lines and those after `step`, the step of the checkpoint that the run resumes from. Up to there
        were so many `evaluations`, and lines with this `checksum`. The last stretch began at `from_step`: the mean of
        weights that ended the one before it is dropped, because a repeated stretch takes none."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        open(self.path, "ab", opener=open_regular).close()  # a link is refused
        with atomic(self.path) as temporary, temporary.open("wb") as kept:
            for line in undamaged_lines(self.path, step, evaluations, checksum, from_step=from_step):
                kept.write(line)
                self.checksum = chained(self.checksum, line)

    def write(self, place: Mapping[str, Any], **values: Any) -> None:
        """JSON has no infinities and no NaN: they become null."""
        line = json.dumps(_finite({**place, **values})) + "\n"
        self.waiting.append(line)
        self.checksum = chained(self.checksum, line.encode())

    def write_scores(self, place: Mapping[str, Any], scores: Mapping[str, Any], **values: Any) -> None:
        """The line of an evaluation."""
        self.write(place, **values, **{f"{SCORES}{name}": value for name, value in scores.items()})

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


def chained(checksum: str, line: bytes) -> str:
    """The checksum of some lines and this one after them: the SHA-256 of the checksum before, and the line."""
    return hashlib.sha256(checksum.encode() + line).hexdigest()


def undamaged_lines(path: Path, step: int, evaluations: int, checksum: str, *, from_step: int) -> Iterator[bytes]:
    """The lines up to `step`, but for means up to `from_step`. After the last one, if they do not have this `checksum`,
    a warning counts the damaged lines, and the steps and evaluations that do not have one line each. Another counts the
    steps that are lost where there are lines of a run that starts from step 0."""
    damaged, later, steps, evaluated, found = 0, set[int](), Counter[int](), Counter[int](), ""
    if path.exists():
        with open(path, "rb", opener=open_regular) as file:
            for line in file:
                if (values := line_values(line)) is None:
                    # The last line is cut if the run was killed while it wrote: it is of a step that will be repeated.
                    damaged += line.endswith(b"\n")
                elif values["step"] > step:
                    later.add(values["step"])
                elif "averaged" not in values or values["step"] > from_step:
                    if "averaged" not in values:  # written after the last checkpoint
                        (evaluated if any(name.startswith(SCORES) for name in values) else steps)[values["step"]] += 1
                        found = chained(found, line)
                    yield line
    if step == 0 and later:
        warnings.warn(
            f"{path.parent} has no checkpoint to resume from: the run starts from the beginning, and the metrics of "
            f"its {len(later):,} steps are dropped",
            stacklevel=2,
        )
    if damaged or found != checksum:
        wrong_steps, wrong_evaluations = (
            number - sum(count == 1 for count in counts.values())
            for number, counts in ((step, steps), (evaluations, evaluated))
        )
        warnings.warn(
            f"{path} was changed since the run wrote it: damaged lines, which do not count: {damaged:,}; steps without "
            f"a line, or with several: {wrong_steps:,} of {step:,}; evaluations likewise: {wrong_evaluations:,} of "
            f"{evaluations:,}; where all of these are 0, values in lines",
            stacklevel=2,
        )


def line_values(line: bytes) -> dict[str, Any] | None:
    """The values of a line, its step among them; None if the line is damaged."""
    try:
        values: Any = json.loads(line) if line.endswith(b"\n") else None
        step = values["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return values if type(step) is int and step > 0 else None


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


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
