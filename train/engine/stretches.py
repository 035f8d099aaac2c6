"""The stretches of a run that was made longer: where each began, and the flags that it has of its own.

    python -m train.translate --out RUN --steps 400
    python -m train.translate --resume RUN --steps 500      a second stretch, from step 400 to step 500

Weights, optimizer and the order of the data continue. The schedule starts again: a stretch has the share of `--lr` that
a run of its length has, but no second warm-up. `stretches.json` says where each began, so that a run that falls back to
a checkpoint of an earlier stretch takes the same steps again.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from minitransformer.checks import fits
from minitransformer.errors import InputError
from minitransformer.files import write_json
from minitransformer.untrusted import read_json
from train.engine.processes import Processes
from train.engine.results import digest, end_of_stretch
from train.engine.settings import LoopOptions
from train.engine.state import State

STRETCHES = "stretches.json"
OWN = {
    "stretch": int,
    "from_step": int,
    "from_seconds": float,
    "steps": int | None,
    "minutes": float | None,
    "lr": float,
    "schedule": str,
    "evaluations": int,
    "patience": int | None,
}
"""The options that each stretch has of its own, and their types."""
CHOSEN = ("steps", "minutes", "lr", "schedule", "evaluations", "patience")
"""Those that flags choose."""


def stretches_of(folder: Path, options: LoopOptions, state: State) -> list[LoopOptions]:
    """The options of every stretch, in order. The last one is that of the flags, `options`: if its number is new, it
    begins at `state`. All processes have to call it. `InputError` if it would end before it begins."""
    own = Processes.current().on_rank_0(lambda: _begun(folder / STRETCHES, options, state))
    return [replace(options, **values) for values in own]


def _begun(path: Path, options: LoopOptions, state: State) -> list[dict[str, Any]]:
    known, now = _read(path), {name: getattr(options, name) for name in OWN}
    chosen = {name: now[name] for name in CHOSEN}
    if not known and state.step:
        warnings.warn(f"{path} is gone: the run counts as one stretch", stacklevel=2)
        begun = [now]
    elif known and (known[-1]["stretch"] == options.stretch or chosen.items() <= known[-1].items()):
        begun = [*known[:-1], known[-1] | chosen]
    else:
        # Of a finished stretch the results say where it ended, even if its last checkpoint is lost.
        step, seconds = end_of_stretch(path.parent, options.stretch - 1) or (state.step, state.seconds)
        require_longer(options, path.parent, step, seconds)
        begun = [stretch for stretch in known if stretch["from_step"] < step]
        begun.append(now | {"from_step": step, "from_seconds": seconds})
    if begun != known:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"stretches": begun, "sha256": digest(begun)})
    return begun


def _read(path: Path) -> list[dict[str, Any]]:
    """The stretches in the file, which may be anyone's; none if it is not there."""
    if not path.exists():
        return []
    found = read_json(path)
    stretches = found.get("stretches") if isinstance(found, dict) else None
    if (
        not isinstance(stretches, list)
        or found.get("sha256") != digest(stretches)
        or not stretches
        or not all(isinstance(each, dict) and each.keys() == OWN.keys() for each in stretches)
        or not all(fits(each[name], kind) for each in stretches for name, kind in OWN.items())
        or stretches[0]["from_step"] != 0
    ):
        raise InputError(f"{path} was changed since the run wrote it: put it back")
    return stretches


def require_longer(length: Any, folder: Path, step: int, seconds: float) -> None:
    """`InputError` if a run that has taken so many steps and seconds is as long as `length.steps` or `.minutes`."""
    if length.steps is not None and length.steps <= step:
        raise InputError(f"--steps {length.steps:,}: {folder} has taken {step:,} steps already: give more")
    if length.minutes is not None and 60 * length.minutes <= seconds:
        done = f"{folder} has trained for {seconds / 60:.3g} minutes already"
        raise InputError(f"--minutes {length.minutes:g}: {done}: give more")


def current_stretch(stretches: Sequence[LoopOptions], state: State) -> LoopOptions:
    """The options of the next step. Where a stretch begins, its evaluations are counted from 0 and the run is not
    finished any more."""
    place = max(place for place, stretch in enumerate(stretches) if stretch.from_step <= state.step)
    if state.finished and place + 1 < len(stretches):  # a repeated stretch that minutes ended at an earlier step
        place += 1
        begins = True
    else:
        begins = place > 0 and stretches[place].from_step == state.step
    if begins:
        state.finished, state.evaluations = False, 0
    return stretches[place]
