"""The checkpoints of a run: when the next one is due, which are kept, and which one a run resumes from.

    checkpoints/
      step-00000120/        everything about the run after step 120
      step-00000180/
      evaluated-00000100/   the weights of an evaluation: of the best one so far; of all, if some are to be averaged in
                            the end, and then of those that were
      damaged-step-00000240-1/   a damaged checkpoint, set aside by a resume

A checkpoint names the step of its best weights. So whichever checkpoint a run resumes from, it finds the best weights
of that time, not those of later steps that it will repeat.
"""

import errno
import re
import shutil
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from minitransformer.errors import InputError
from minitransformer.files import unfinished
from train.engine.checkpoint import load_checkpoint, read_state, save_checkpoint
from train.engine.processes import Processes, not_shared
from train.engine.settings import RunOptions
from train.engine.state import State
from train.engine.tensor_folder import DamagedError, read_checksums, remove_folder, require_undamaged

SECONDS = 60.0
SHARE = 0.01
"""The share of the time for writing checkpoints: large models write theirs more rarely than every `SECONDS`."""

Kind = Literal["step", "evaluated"]


class Checkpoints:
    """The checkpoints of the run that is called `options.run_id`. The `state` that `save` takes is that of
    `save_checkpoint`, with `step` and `best_step` in it."""

    def __init__(self, folder: Path, options: RunOptions | None = None, *, keep_evaluated: bool = False):
        if folder.is_symlink():
            raise InputError(f"{folder} is a link, and checkpoints in it are removed: put the folder itself there")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder, and checkpoints are written there: remove it")
        self.folder, self.options, self.keep_evaluated = folder, options or RunOptions(), keep_evaluated
        self.saved_at, self.cost = time.monotonic(), 0.0
        self.spent = 0.0
        """Seconds spent on writing, including those before the run was resumed."""

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
        """Load the newest undamaged checkpoint and return its state; None if there is none.

        A resume deletes nothing but temporary folders that a killed process left half-written:

        - Every newer checkpoint is damaged, or it would have been loaded. It is set aside under the name `damaged-...`,
          with a warning, because an unreadable disk may be readable again.
        - Best weights of steps that the run will repeat stay until the repeated run writes a checkpoint.
        - An undamaged checkpoint that does not fit (another run, model, optimizer or version) is `InputError`, and so
          is a disk that refuses access: both leave everything as it is.

        If the best weights are damaged, missing or of another run, the weights of the loaded checkpoint count as the
        best from then on, with a warning. The best score is forgotten, so the next evaluation is the best, if the run
        has another one.
        """
        processes = Processes.current()
        step = processes.on_rank_0(self._newest_undamaged)
        path = self._path("step", step or 0)
        if len(set(map(str, processes.gather(read_checksums(path))))) > 1:
            raise not_shared(self.folder)
        if step is None:
            return None
        state = State.from_json(load_checkpoint(path, model, optimizer), path)
        if (state.step, state.run_id) != (step, self.options.run_id):
            raise InputError(f"{path} is of another run or another step: move it away to resume from the one before it")
        if processes.on_rank_0(lambda: self._best_is_lost(state)):
            self.save_weights(model, state.step)
            state.best_step, state.best_score = state.step, None
        self.saved_at, self.spent = time.monotonic(), state.checkpoint_seconds
        return state

    def _newest_undamaged(self) -> int | None:
        if not self.folder.is_dir():
            return None
        for path in unfinished(self.folder, r"(step|evaluated)-\d+"):
            shutil.rmtree(path)
        if old := sorted(self.folder.glob("step-*.safetensors")):
            raise InputError(f"{old[-1]} is a checkpoint of an earlier version: resume the run with that version")
        damage: dict[Path, Exception] = {}
        found = None
        for step in reversed(self._steps("step")):
            if (error := self.damage("step", step)) is None:
                found = step
                break
            damage[self._path("step", step)] = error
        for path, error in damage.items():
            way_on = "starts from the beginning" if found is None else f"resumes from step {found}"
            warnings.warn(f"{error}; it is kept as {_set_aside(path)}, and the run {way_on}", stacklevel=2)
        return found

    def _best_is_lost(self, state: State) -> bool:
        if not state.best_step or (error := self.damage("evaluated", state.best_step)) is None:
            return False
        if (path := self._path("evaluated", state.best_step)).exists():
            _set_aside(path)
        until = "" if state.finished else ", until the next evaluation"
        warnings.warn(
            f"{error}: the best weights, of step {state.best_step}, are lost; those of step {state.step} count as the "
            f"best{until}",
            stacklevel=2,
        )
        return True

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        wait = self.options.checkpoint_seconds
        if wait is None:
            wait = max(SECONDS, self.cost / SHARE)
        return time.monotonic() - self.saved_at >= wait

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, and only then remove those that are no longer kept."""
        before = self.spent
        with self._timed():
            save_checkpoint(self._path("step", state["step"]), model, optimizer, state)
            Processes.current().on_rank_0(self.remove_old)
        self.saved_at, self.cost = time.monotonic(), self.spent - before

    def save_weights(self, model: nn.Module, step: int) -> None:
        with self._timed():
            save_checkpoint(self._path("evaluated", step), model, None, {"step": step, "run_id": self.options.run_id})

    def load_weights(self, model: nn.Module, step: int) -> None:
        """Load the weights of an evaluation. Raises `DamagedError`."""
        if (error := self.damage("evaluated", step)) is not None:
            raise error
        load_checkpoint(self._path("evaluated", step), model)

    def damage(self, kind: Kind, step: int) -> Exception | None:
        """Why a checkpoint cannot be used: it is damaged, or is another run's. None if it can be used."""
        path = self._path(kind, step)
        try:
            require_undamaged(path)
            if kind == "evaluated" and read_state(path) != {"step": step, "run_id": self.options.run_id}:
                raise DamagedError(f"{path} is of another run or another step")
        except DamagedError as error:
            return error
        except OSError as error:
            if error.errno != errno.EIO:  # a bad place on the disk
                raise
            return error
        return None

    def remove_old(self, *, kept: Collection[int] = ()) -> None:
        """Keep the latest checkpoints, and the weights of evaluations that are needed: as `remove_evaluated` says."""
        for step in self._steps("step")[: -self.options.keep_checkpoints]:
            remove_folder(self._path("step", step))
        if not self.keep_evaluated:
            self.remove_evaluated(kept=kept)

    def remove_evaluated(self, *, kept: Collection[int] = ()) -> None:
        """Delete the weights of evaluations, except for the `kept` steps and each checkpoint's best step."""
        try:
            named = {read_state(self._path("step", step)).get("best_step") for step in self._steps("step")}
        except (InputError, OSError):  # one of them has been damaged since: which weights it needs is not known
            return
        for step in self._steps("evaluated"):
            if step not in named and step not in kept:
                remove_folder(self._path("evaluated", step))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.spent += time.monotonic() - began

    def _path(self, kind: Kind, step: int) -> Path:
        return self.folder / f"{kind}-{step:08}"

    def _steps(self, kind: Kind) -> list[int]:
        """The steps of all checkpoints of this kind, in order."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := re.fullmatch(rf"{kind}-(\d{{8,}})", name)))


def _set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to `damaged-...`, with a number that is free."""
    names = (path.with_name(f"damaged-{path.name}-{number}") for number in count(1))
    return path.rename(next(name for name in names if not name.exists()))
