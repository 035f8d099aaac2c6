"""What a run notes down: `metrics.jsonl`, a JSON object a line for every step and every evaluation, and
`not-finite.json`, the batches whose loss or gradient was not a finite number."""

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

    def resume(self, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Drop the lines after `step`, the step of the checkpoint that the run resumes from, and damaged ones.
        `history` is what the evaluations up to there found."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        open(self.path, "ab", opener=open_regular).close()  # a link is refused
        with atomic(self.path) as temporary, temporary.open("wb") as kept:
            kept.writelines(undamaged_lines(self.path, step, history))

    def write(self, place: Mapping[str, Any], **values: Any) -> None:
        """JSON has no infinities and no NaN: they become null."""
        self.waiting.append(json.dumps(_finite({**place, **values})) + "\n")

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


def undamaged_lines(path: Path, step: int, history: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines up to `step`; `history` is what the evaluations found. After the last one, a warning counts the damaged
    lines, and the steps and evaluations that do not have one line each. Another counts the steps that are lost where
    there are lines of a run that starts from step 0."""
    damaged, later, steps, evaluations = 0, set[int](), Counter[int](), Counter[str]()
    if path.exists():
        with open(path, "rb", opener=open_regular) as file:
            for line in file:
                if (values := _values(line)) is None:
                    # The last line is cut if the run was killed while it wrote: it is of a step that will be repeated.
                    damaged += line.endswith(b"\n")
                elif values["step"] > step:
                    later.add(values["step"])
                else:
                    scores = {name.removeprefix(SCORES): values[name] for name in values if name.startswith(SCORES)}
                    if not scores:
                        steps[values["step"]] += 1
                    elif "averaged" not in values:
                        evaluations[_as_text(values["step"], scores)] += 1
                    yield line
    if step == 0 and later:
        warnings.warn(
            f"{path.parent} has no checkpoint to resume from: the run starts from the beginning, and the metrics of "
            f"its {len(later):,} steps are dropped",
            stacklevel=2,
        )
    known = Counter(
        _as_text(entry.get("step"), {name: entry[name] for name in entry if name not in ("step", "seconds")})
        for entry in history
        if "averaged" not in entry
    )
    wrong_steps = step - sum(count == 1 for count in steps.values())
    wrong_evaluations = max((known - evaluations).total(), (evaluations - known).total())
    if damaged or wrong_steps or wrong_evaluations:
        warnings.warn(
            f"{path} was changed since the run wrote it: damaged lines, which do not count: {damaged:,}; steps without "
            f"a line, or with several: {wrong_steps:,} of {step:,}; evaluations without their line, or with others: "
            f"{wrong_evaluations:,} of {known.total():,}",
            stacklevel=2,
        )


def _values(line: bytes) -> dict[str, Any] | None:
    """The values of a line, its step among them; None if the line is damaged."""
    try:
        values: Any = json.loads(line) if line.endswith(b"\n") else None
        step = values["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return values if type(step) is int and step > 0 else None


def _as_text(step: Any, scores: Mapping[str, Any]) -> str:
    return json.dumps([step, sorted(_finite(scores).items())])


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
