"""Ctrl-C and SIGTERM: a run ends its step, writes a checkpoint and leaves with the exit code that schedulers expect."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.engine.processes import launched


class TrainingInterrupted(BaseException):
    """A signal asked the run to stop; it has been saved and can go on. Like `KeyboardInterrupt`, it is no error."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number


@contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Neither signal breaks in: the yielded function gives the number of the one that came, or None.

    Where the block ends of itself, a signal that came too late for it to ask is raised as `TrainingInterrupted`.

    A second Ctrl-C breaks in at once. A second SIGTERM does not: schedulers send it to a process and to its group. Nor
    does a Ctrl-C under `torchrun`, which passes on what the terminal has sent to all of them.
    """
    requested: int | None = None

    def request(number: int, frame: Any) -> None:
        nonlocal requested
        if number == signal.SIGINT and requested is not None and not launched():
            raise KeyboardInterrupt
        requested = requested or number

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if requested is not None:
        raise TrainingInterrupted(requested)


@contextmanager
def resumable(command: str, folder: Path | None) -> Iterator[None]:
    """Around a whole job: where a signal stops it, say how to go on, and exit with 128 + the signal's number. `folder`
    is None until it has been chosen.

    Outside of training, where there is nothing to save, both signals break in at once.
    """

    def leave(number: int, frame: Any) -> None:
        raise TrainingInterrupted(number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
        return
    except TrainingInterrupted as interrupted:
        number = interrupted.number
    except KeyboardInterrupt:
        number = signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, previous)
    begun = folder is not None and folder.exists()
    print(f"stopped; to go on: python -m train.{command} --resume {folder}" if begun else "stopped before it began")
    raise SystemExit(128 + number)
