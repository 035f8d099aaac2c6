"""Ctrl-C and SIGTERM: a run finishes its step, writes a checkpoint and exits with the code that schedulers expect."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.engine.processes import launched


class TrainingInterrupted(BaseException):
    """A signal stopped the run, which has been saved and can be resumed. Like `KeyboardInterrupt`, no `Exception`."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number


@contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Within the block signals do not interrupt: the yielded function returns the number of one that came, or None.

    A signal that came after the last call of that function is raised as `TrainingInterrupted` at the end of the block.

    A second Ctrl-C interrupts at once. A second SIGTERM does not, because schedulers send it to a process and to its
    group. Nor does a second Ctrl-C under `torchrun`, which repeats the one that the terminal sent to all processes.
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
    """Around a whole job: if a signal stops it, print how to resume it and exit with 128 + the signal's number.
    `folder` is None until it has been chosen.

    Outside of training, where there is nothing to save, signals interrupt at once.
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
    print(f"stopped; resume with: python -m train.{command} --resume {folder}" if begun else "stopped before it began")
    raise SystemExit(128 + number)
