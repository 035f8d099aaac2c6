"""Where a run's figures go besides its own files: TensorBoard, or a class of one method.

    --log tensorboard               --log tensorboard,my_logger:MyLogger

Rank 0 logs. A logger does not change the run: the random numbers are the same without it, and its errors are counted
and reported once.
"""

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from minitransformer.errors import InputError
from train.engine.checkpoint import undisturbed

SECONDS = 1.0
"""Loggers get the figures of the steps this often, so that they take no time of small models' steps."""
Values = Mapping[str, float | str | Path]


@runtime_checkable
class Logger(Protocol):
    """`--log MODULE:CLASS` makes one for each model of a run, and calls it with the folder of the model."""

    def log(self, step: int, values: Values) -> None:
        """`values` by name: numbers are points of curves, strings are texts, and paths are pictures (.png)."""


def logger_classes(names: str | None) -> dict[str, Callable[[Path], Logger]]:
    """What `--log` names. `InputError` for a logger that is not there, or that lacks a package."""
    return {name: _logger_class(name) for name in (names or "").split(",") if name}


def _logger_class(name: str) -> Callable[[Path], Logger]:
    if name == "tensorboard":
        if importlib.util.find_spec("tensorboard") is None:
            raise InputError("--log tensorboard: it is not installed: pip install 'minitransformer[tensorboard]'")
        from train.engine.tensorboard import TensorBoard

        return TensorBoard
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None) if module and attribute else None
    except ImportError as error:
        raise InputError(f"--log {name}: {error}") from error
    if not callable(getattr(found, "log", None)):
        raise InputError(f"--log {name}: give tensorboard, or MODULE:CLASS of a class with a method log(step, values)")
    return found  # type: ignore[return-value]


class Loggers:
    """All loggers of a run as one that never fails."""

    def __init__(self, loggers: Sequence[Logger] = ()):
        self.loggers, self.failed = list(loggers), dict[str, int]()
        self.waiting: list[tuple[int, Values]] = []
        self.sent_at = time.monotonic()

    @classmethod
    def of(cls, names: str | None, folder: Path, further: Sequence[Logger] = ()) -> "Loggers":
        """Those that `--log` names, for the model in `folder`, and `further` ones."""
        made = cls(further)
        with undisturbed():
            for name, logger_class in logger_classes(names).items():
                made.safely(name, partial(made.add, logger_class, folder))
        return made

    def add(self, logger_class: Callable[[Path], Logger], folder: Path) -> None:
        self.loggers.append(logger_class(folder))

    def log(self, step: int, **values: Any) -> None:
        if self.loggers:
            self.waiting.append((step, values))
            if time.monotonic() - self.sent_at >= SECONDS:
                self.send()

    def send(self) -> None:
        """Hand over what waits."""
        waiting, self.waiting, self.sent_at = self.waiting, [], time.monotonic()
        with undisturbed():
            for logger in self.loggers:
                for step, values in waiting:
                    self.safely(type(logger).__name__, partial(logger.log, step, values))

    def safely(self, name: str, action: Callable[[], Any]) -> None:
        """Call `action`. Errors of one `name` are said once and counted."""
        try:
            action()
        except Exception as error:
            self.failed[name] = self.failed.get(name, 0) + 1
            if self.failed[name] == 1:
                warnings.warn(f"--log {name} failed ({type(error).__name__}: {error}): the run goes on", stacklevel=3)

    def say_failures(self) -> None:
        """Warn of the loggers that failed again after the first time."""
        for name, count in self.failed.items():
            if count > 1:
                warnings.warn(f"--log {name} failed {count:,} times", stacklevel=2)
