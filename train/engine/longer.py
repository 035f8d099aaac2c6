"""A run made longer by its flags: which of them a new stretch may change, and what is kept of the one before."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from minitransformer.errors import InputError
from train.engine.checkpoint import read_state
from train.engine.presets import LENGTH
from train.engine.results import RESULTS, set_aside
from train.engine.settings import Settings
from train.engine.stretches import require_longer

S = TypeVar("S", bound=Settings)
WITH_LENGTH = {"lr", "schedule", "evaluations", "patience"}
"""Flags that may change beside a new length."""


def next_stretch(saved: S, settings: S, named: Collection[str]) -> S:
    """The settings of a new stretch if their length differs from `saved`, else `settings`.

    The lengths that the command `named` are the whole length: --minutes alone replaces --steps.
    """
    lengths = [field.name for field in dataclasses.fields(settings) if field.name in LENGTH]
    if all(getattr(settings, name) == getattr(saved, name) for name in lengths):
        return settings
    left_out: dict[str, Any] = {name: None for name in lengths if name not in named}
    return dataclasses.replace(settings, **left_out, stretch=saved.stretch + 1)


def require_possible_length(folder: Path, settings: Settings) -> None:
    """`InputError`, before any work, if the run in `folder` or a part of it is as long as its new stretch already."""
    for part in (folder, *sorted(path.parent for path in folder.glob("*/checkpoints"))):
        if part.name in settings.finished_once and (part / RESULTS).exists():
            continue
        if checkpoints := sorted((part / "checkpoints").glob("step-*")):
            try:
                state = read_state(checkpoints[-1])
                step, seconds = int(state["step"]), float(state["seconds"])
            except (InputError, OSError, KeyError, TypeError, ValueError):
                continue  # a damaged one is the resume's to find
            require_longer(settings, part, step, seconds)


def set_results_aside(folder: Path, settings: Settings, stretch: int) -> None:
    """Keep the results of a stretch that was finished, in the run and in its parts."""
    for part in (folder, *(path.parent for path in folder.glob(f"*/{RESULTS}"))):
        if part.name not in settings.finished_once:
            set_aside(part, stretch)
