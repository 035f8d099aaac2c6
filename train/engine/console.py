"""The console of every job, its tables and its progress: on a terminal a bar with speed and time left, else lines."""

import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0


class JobConsole(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process here, in the middle of a step."""
        raise  # the error that is being handled


def wide_console() -> Console:
    """Standard output; where that is not a terminal, 120 columns wide, so that tables are not cut.

    In a notebook it writes plain lines: rich would put each into an HTML block of its own, and take the cell for a
    terminal. Labels and paths are printed as they are: "[b]" or ":car:" in them is not markup.
    """
    return JobConsole(
        width=None if sys.stdout.isatty() else 120,
        markup=False,
        emoji=False,
        highlight=False,
        force_jupyter=False,
        force_terminal=False if "ipykernel" in sys.modules else None,
    )


class TrainingProgress:
    """Shows the share of a run that is done; `update` is cheap enough to call at every step.

    `error` is why nothing more can be printed, such as a closed pipe or a full disk: the loop raises it when it has
    written a checkpoint.
    """

    def __init__(self, name: str, console: Console):
        self.name, self.console = name, console
        self.last_line = time.monotonic()
        self.error: OSError | None = None
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=1.0, text="")

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.bar.stop()

    def update(self, done: float, text: str, seconds_left: float) -> None:
        self.bar.update(self.task, completed=done, text=text)
        if not self.console.is_terminal and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.note(f"{self.name}: {done:4.0%}  {text}  {seconds_left:.0f} s left")

    def note(self, text: str) -> None:
        try:
            self.console.print(text, soft_wrap=True)
        except OSError as error:
            self.error, self.console.quiet = error, True


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str | None = None) -> Table:
    """The first column is text, the others are numbers."""
    built = Table(title=title, caption=caption)
    for place, column in enumerate(columns):
        built.add_column(column, justify="right" if place else "left")
    for row in rows:
        built.add_row(*row)
    return built
