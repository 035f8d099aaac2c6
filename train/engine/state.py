"""Where a run stands: what a checkpoint holds besides tensors."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from minitransformer.checks import fits
from minitransformer.errors import InputError
from minitransformer.untrusted import shown

PLACE = ("step", "seconds")
"""What an evaluation in `State.history` has besides its figures."""
LARGEST_COUNT = 1 << 53
"""Larger counts are not from a run, and overflow what they are added to."""


@dataclass
class State:
    """`seconds` counts training steps alone, not evaluation, nor the `checkpoint_seconds` spent on writing."""

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
    """The figures of every evaluation, with its step and seconds."""
    skipped: int = 0
    """Steps skipped because their loss or gradient was not finite."""
    start: dict[str, float] = field(default_factory=dict)
    """The figures of an evaluation before the first step, of a model that was trained before."""
    finished: bool = False
    run_id: str = ""
    metrics: str = field(default="", compare=False)
    """The checksum of the lines of `metrics.jsonl` so far."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any], path: Path) -> "State":
        """The state in the checkpoint `path`, which may be anyone's. `InputError` if it is not one."""
        hints = get_type_hints(cls)
        wrong = [name for name, hint in hints.items() if name not in values or not fits(values[name], hint)]
        wrong += [name for name in values if name not in hints]
        if not wrong:
            state = cls(**values)
            counts = [value for value in values.values() if type(value) is int]
            steps = [entry.get("step") for entry in state.history]
            if (
                state.step > 0
                and all(0 <= count < LARGEST_COUNT for count in counts)
                and 0 < state.seconds < math.inf
                and 0 <= state.checkpoint_seconds < math.inf
                and fits(steps, list[int])
                and all("seconds" in entry and fits(entry, dict[str, float]) for entry in state.history)
            ):
                return state
        listed = ", ".join(f"{name}={shown(values.get(name))}" for name in wrong) or shown(dict(values))
        raise InputError(f"{path} is not a checkpoint of this version: its state has {listed}")

    def best_so_far(self) -> str:
        """The figures of the best evaluation, for the end of a line of progress; nothing before there is one."""
        found = [entry for entry in self.history if entry["step"] == self.best_step]
        figures = [f"{key} {value:.4f}" for entry in found[:1] for key, value in entry.items() if key not in PLACE]
        return f"  best so far: {'  '.join(figures)} at step {self.best_step}" if figures else ""

    def place(self) -> dict[str, Any]:
        """What every line of `metrics.jsonl` begins with."""
        return {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 3)}


def require_scores(state: State, score: Callable[[Mapping[str, float]], Sequence[float]], folder: Path) -> None:
    """`InputError` if an evaluation in a checkpoint, which may be anyone's, lacks the figures of this job's score."""
    try:
        [score(evaluation) for evaluation in state.history]
    except KeyError as error:
        raise InputError(
            f"{folder}: an evaluation in its newest checkpoint has no {error}: it is of another job"
        ) from error


def rank(scores: Sequence[float]) -> list[float]:
    """Scores to compare evaluations by: one that is not finite is the worst, where NaN compares with nothing."""
    return [score if math.isfinite(score) else -math.inf for score in scores]
