"""Where a run stands: what a checkpoint holds besides tensors."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from minitransformer.errors import InputError
from minitransformer.untrusted import shown
from train.engine.loop_options import LoopOptions
from train.engine.sealed import DamagedFileError
from train.engine.typed_json import fits

MOST = 1 << 53
"""Larger counts are none of ours, and overflow what they are added to."""


@dataclass
class State:
    """`seconds` counts training steps alone, not evaluation, nor the `checkpoint_seconds` that writing took."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    tokens: int = 0
    seconds: float = 0.0
    checkpoint_seconds: float = field(default=0.0, compare=False)
    evaluations: int = 0
    best_score: list[float] | None = None
    best_step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path) -> "State":
        """The state in the checkpoint `path`. `DamagedFileError` where it is none; a field of another version is a
        plain `InputError`, because what is damaged is removed."""
        hints = get_type_hints(cls)
        if unknown := [name for name in values if name not in hints]:
            raise InputError(f"{path}: its state has {shown(unknown)}: go on with the version that wrote it")
        missing = [name for name in ("step", "best_step") if name not in values]
        wrong = [name for name, value in values.items() if not fits(value, hints[name])]
        if not (missing or wrong):
            state = cls(**values)
            counts = [getattr(state, part.name) for part in fields(cls) if part.type is int]
            entries = [(entry.get("step"), entry.get("seconds")) for entry in state.history]
            if (
                all(0 <= count < MOST for count in counts)
                and (0 < state.seconds < math.inf or state.step == state.seconds == 0)
                and 0 <= state.checkpoint_seconds < math.inf
                and all(fits(step, int) and fits(seconds, float) for step, seconds in entries)
                and all(
                    fits(value, float) for entry in state.history for key, value in entry.items() if key != "averaged"
                )
            ):
                return state
        of = ", ".join(f"{name}={shown(values.get(name))}" for name in missing + wrong) or shown(dict(values))
        raise DamagedFileError(f"{path} is no checkpoint of a run: its state has {of}")

    def place(self) -> dict[str, Any]:
        """What every line of `metrics.jsonl` begins with."""
        return {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 3)}

    def out_of_patience(self, options: LoopOptions) -> bool:
        """Whether the latest evaluations were no better than the best one before them."""
        since = sum(evaluation["step"] > self.best_step for evaluation in self.history)
        return options.patience is not None and since >= options.patience

    def progress(self, options: LoopOptions) -> float:
        """The share of the run that is done, by the limit that is nearer."""
        by_steps = self.step / options.steps if options.steps else 0.0
        by_time = self.seconds / (60 * options.minutes) if options.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


def require_scores(state: State, score: Callable[[Mapping[str, float]], Sequence[float]], folder: Path) -> None:
    """`InputError` where an evaluation in a checkpoint, which may be anyone's, lacks what it is compared by."""
    try:
        [score(evaluation) for evaluation in state.history]
    except KeyError as error:
        raise InputError(
            f"{folder}: an evaluation in its newest checkpoint has no {error}: it is of another job"
        ) from error


def rank(scores: Sequence[float]) -> list[float]:
    """To compare an evaluation by: a score that is not finite is the worst, where NaN itself compares with nothing."""
    return [score if math.isfinite(score) else -math.inf for score in scores]
