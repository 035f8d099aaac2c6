"""The checkpoints of a run in a folder: the last few, and the weights of the best evaluation of each.

checkpoints/
  step-00000120.safetensors    where the run stood after step 120
  step-00000180.safetensors
  best-00000100.safetensors    the weights that had the best score up to then
  evaluated-00000100.safetensors  the weights of every evaluation, if they are to be averaged, until they are

Of a model in shards each is a folder, of the same name without the suffix (see `shard_folder`).

Best weights bear their step in their name, and a checkpoint holds the step of its own: whichever checkpoint a run goes
on from, its best weights are there, and those of steps that are lost again are not taken for them.
"""

import errno
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minitransformer.errors import InputError
from minitransformer.files import unfinished
from train.engine.checkpoint import load_checkpoint, put_in_place, read_state, save_checkpoint
from train.engine.processes import Processes, not_shared
from train.engine.sealed import DamagedFileError
from train.engine.shard_folder import remove_checkpoint
from train.engine.state import State

SECONDS = 60.0
SHARE = 0.01
"""Of the time, for writing checkpoints: large models write theirs more rarely than every `SECONDS`."""


class Checkpoints:
    """Those of one run. `state` is what `save_checkpoint` takes, with `step` and `best_step` in it."""

    def __init__(self, folder: Path, *, keep: int = 2, seconds: float | None = None):
        if folder.is_symlink():
            raise InputError(
                f"{folder} is a link, and files in it are removed: it is refused; put the folder itself there"
            )
        self.folder, self.keep, self.seconds = folder, keep, seconds
        self.saved_at, self.cost = time.monotonic(), 0.0
        self.spent = 0.0
        """Seconds that have gone into writing, also before the run was resumed."""

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
        """Put the newest checkpoint back in place that is as it was written, and return its state; None without one.

        What is newer goes: it is damaged, or of steps that the run takes again. A warning tells of damage.
        """
        damage: list[Exception] = []
        state = None
        processes = Processes.current()
        for step in reversed(processes.on_rank_0(lambda: self._steps("step"))):
            try:
                path = self._path("step", step)
                found = State.from_json(read_state(path), path)
                if found.best_step:
                    read_state(self._path("best", found.best_step))
                put_in_place(path, model, optimizer)
                state = found
                break
            except (DamagedFileError, FileNotFoundError) as error:
                damage.append(error)
            except OSError as error:
                if error.errno != errno.EIO:  # a bad place on the disk
                    raise
                damage.append(error)
        for damaged in damage:
            way_on = f"goes on from step {state.step}" if state else "starts again from the beginning"
            warnings.warn(f"{damaged}; the run {way_on}", stacklevel=2)
        came_to = state.step if state else 0
        if len(set(processes.gather(came_to))) > 1:
            raise not_shared(self.folder)
        processes.on_rank_0(lambda: self._remove_after(came_to))
        self.saved_at = time.monotonic()
        self.spent = state.checkpoint_seconds if state else 0.0
        return state

    def due(self) -> bool:
        """Whether it is time for the next one."""
        wait = max(SECONDS, self.cost / SHARE) if self.seconds is None else self.seconds
        return time.monotonic() - self.saved_at >= wait

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Write one, and only then remove those that are more than enough."""
        before = self.spent
        with self._timed():
            save_checkpoint(self._path("step", state["step"]), model, optimizer, state)
            Processes.current().on_rank_0(self._remove_old)
        self.saved_at, self.cost = time.monotonic(), self.spent - before

    def save_best(self, model: nn.Module, state: dict[str, Any]) -> None:
        with self._timed():
            save_checkpoint(self._path("best", state["best_step"]), model, None, state)

    def load_best(self, model: nn.Module, step: int) -> None:
        load_checkpoint(self._path("best", step), model)

    def save_evaluated(self, model: nn.Module, step: int) -> None:
        with self._timed():
            save_checkpoint(self._path("evaluated", step), model, None, {"step": step})

    def load_evaluated(self, model: nn.Module, step: int) -> None:
        load_checkpoint(self._path("evaluated", step), model)

    def remove_evaluated(self) -> None:
        for step in self._steps("evaluated"):
            self._remove("evaluated", step)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.spent += time.monotonic() - began

    def _path(self, kind: str, step: int) -> Path:
        path = self.folder / f"{kind}-{step:08}.safetensors"
        return folder if (folder := path.with_suffix("")).is_dir() else path

    def _remove(self, kind: str, step: int) -> None:
        path = self.folder / f"{kind}-{step:08}.safetensors"
        for form in (path, path.with_suffix("")):
            remove_checkpoint(form)

    def _steps(self, kind: str) -> list[int]:
        """Of the files of this kind, in order."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        pattern = re.compile(rf"{kind}-(\d+)(\.safetensors)?")
        return sorted({int(found[1]) for name in names if (found := pattern.fullmatch(name))})

    def _remove_after(self, step: int) -> None:
        for kind in ("step", "best", "evaluated"):
            for newer in self._steps(kind):
                if newer > step:
                    self._remove(kind, newer)
        if self.folder.is_dir():
            for path in unfinished(self.folder, r"(step|best|evaluated)-\d+(\.safetensors)?"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _remove_old(self) -> None:
        steps = self._steps("step")
        for step in steps[: -self.keep]:
            self._remove("step", step)
        oldest = steps[-self.keep :][0]
        # The best of the oldest one that is kept is the newest from before it.
        for step in [best for best in self._steps("best") if best <= oldest][:-1]:
            self._remove("best", step)
