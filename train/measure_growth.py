"""How the cost of training and generating grows: a table with the exponents of growth, and a plot.

python -m train.measure_growth length        time per token against the length of the windows
python -m train.measure_growth width         time per token against the width of the model
python -m train.measure_growth corpus        seconds to a loss against the size of the text
python -m train.measure_growth processes     tokens per second against the number of processes
python -m train.measure_growth memory        peak memory against the length of the windows

Each point is a run of `train.pretrain gpt` on generated text, in a process of its own, on one thread of a CPU.
"""

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from minitransformer.checks import Range, require_ranges
from minitransformer.errors import InputError
from minitransformer.files import write_json
from minitransformer.models import GPT
from minitransformer.plots import Curve, curves_figure, save_figure
from minitransformer.reporting import reported_to_user
from train.engine.console import table, wide_console
from train.engine.flags_file import settings_of, write_flags
from train.engine.measured_process import run_measured
from train.engine.metrics_file import METRICS
from train.engine.settings import Configurable, distinct
from train.engine.stretches import STRETCHES
from train.measure_memory.made_up_text import nats_per_character, write_running_text

NEW_TOKENS, PASSES = 32, 10
LOSS = 2.7
SHARED = "--device cpu --threads 1 --precision fp32 --optimizer adamw --no-samples"


@dataclass(frozen=True)
class Run:
    """A finished run of `train.pretrain gpt`."""

    folder: Path
    seconds_before: float
    """From the start of the process to the first step."""
    peak_megabytes: float

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """The lines of the run's metrics that have this figure."""
        lines = (self.folder / METRICS).read_text(encoding="utf-8").splitlines()
        return [line for line in map(json.loads, lines) if name in line]


Figures = Mapping[str, float | None]  # by the name of the curve; None for a loss that was not reached


@dataclass(frozen=True)
class Measurement:
    x: str
    y: str
    values: tuple[int, ...]
    flags: Callable[[int], str]
    """The flags of the run for a value."""
    figures: Callable[[Run, float], Figures]
    """What is measured of a run that was to reach a loss."""


def time_per_token(run: Run, _: float) -> Figures:
    """Microseconds of a training step, and of decoding one token where the context is nearly full."""
    return {"training": 1e6 / tokens_per_second(run), "generation": 1e6 * decoding_seconds(GPT.load(run.folder))}


def tokens_per_second(run: Run) -> float:
    """By the median of the steps after the first, which also takes memory from the system."""
    steps = run.metrics("lr")
    ends = [0.0, *(step["seconds"] for step in steps)]
    seconds = [end - start for start, end in pairwise(ends)]
    return steps[0]["tokens"] / statistics.median(seconds[1:] or seconds)


@torch.inference_mode()
def decoding_seconds(model: GPT) -> float:
    """The median of the last tokens of the context, in several passes."""
    prompt, seconds = torch.ones(1, max(1, model.config.max_length - NEW_TOKENS), dtype=torch.long), list[float]()
    for _ in range(PASSES):
        logits, state = model.start(prompt, max_new_tokens=NEW_TOKENS)
        for _ in range(NEW_TOKENS):
            began = time.perf_counter()
            logits, state = model.step(logits.argmax(dim=-1), state)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def seconds_to_loss(run: Run, loss: float) -> Figures:
    reached = [line["seconds"] for line in run.metrics("validation_loss") if line["validation_loss"] <= loss]
    together = run.seconds_before + reached[0] if reached else None
    return {"until the first step": run.seconds_before, f"until a loss of {loss:g}": together}


WINDOW, PER_TOKEN = "tokens of a window", "microseconds per token"
LENGTHS = (64, 128, 256, 512, 1024, 2048)
SMALL = "--num-layers 2 --d-model 64 --lr 0.003 --schedule constant --evaluations 30"
MEASUREMENTS = {
    "length": Measurement(
        WINDOW, PER_TOKEN, LENGTHS, lambda n: f"--context {n} --batch-size {max(1, 2048 // n)}", time_per_token
    ),
    "width": Measurement(
        "width (d_model)", PER_TOKEN, (128, 256, 512, 768), lambda n: f"--d-model {n} --num-layers 2", time_per_token
    ),
    "corpus": Measurement("megabytes", "seconds", (1, 3, 10, 30), lambda _: SMALL, seconds_to_loss),
    "processes": Measurement(
        "processes", "tokens per second", (1, 2, 4), lambda _: "", lambda run, _: {"training": tokens_per_second(run)}
    ),
    "memory": Measurement(
        WINDOW, "megabytes", LENGTHS, lambda n: f"--context {n}", lambda run, _: {"peak memory": run.peak_megabytes}
    ),
}


@dataclass(frozen=True)
class GrowthSettings(Configurable):
    """Measure how cost grows. Each point is a run of train.pretrain gpt on generated text, on one thread of a CPU."""

    measurement: Annotated[Literal["length", "width", "corpus", "processes", "memory"], tyro.conf.Positional] = "length"
    """length, width: time per token of training and of generation. corpus: seconds to a loss by megabytes of text.
    processes: tokens per second. memory: peak memory by the length of the windows."""
    values: str | None = None
    """The lengths, widths, megabytes or numbers of processes, with commas."""
    seconds: Annotated[float, Range(more_than=0, at_most=100_000)] = 3.0
    """Seconds of training for each point."""
    loss: Annotated[float, Range(more_than=0)] | None = None
    """For corpus: the validation loss to reach, in nats per character. Default: 2.7."""
    out: Path | None = None
    """The folder for the figures and the plot. Default: runs/measure_growth-NAME-DATE-TIME."""

    def points(self) -> list[int]:
        """The values to measure at, in order. `InputError` for settings that make no sense."""
        require_ranges(self)
        if self.loss is not None and self.measurement != "corpus":
            raise InputError(f"--loss: no effect on {self.measurement}; leave this out")
        if self.values is None:
            return list(MEASUREMENTS[self.measurement].values)
        names, step = distinct("--values", self.values), 8 if self.measurement == "width" else 1
        if wrong := sorted(set(names) - {str(value) for value in range(step, 100_001, step)}):
            raise InputError(f"--values {','.join(wrong)}: whole numbers up to 100000, for width multiples of 8")
        return sorted(map(int, names))

    def new_folder(self) -> Path:
        """The folder for the figures. `InputError` if it holds something."""
        folder = self.out or Path("runs") / f"measure_growth-{self.measurement}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{folder} exists already: choose another --out")
        return folder


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        settings = settings_of(GrowthSettings, "measure_growth", arguments)
        values, folder, console = settings.points(), settings.new_folder(), wide_console()
        torch.set_num_threads(1)
        report(settings, {value: measure(settings, value, console) for value in values}, folder, console)


def measure(settings: GrowthSettings, value: int, console: Console) -> Figures:
    """The figures of a run for this value. Its folder is deleted afterwards."""
    kind, name = MEASUREMENTS[settings.measurement], f"{settings.measurement} {value}"
    flags = [*SHARED.split(), *kind.flags(value).split(), "--minutes", str(settings.seconds / 60)]
    sizes = {size: value if settings.measurement == size else 1 for size in ("corpus", "processes")}
    with tempfile.TemporaryDirectory() as temporary:
        run = run_of(flags, Path(temporary), name, megabytes=sizes["corpus"], processes=sizes["processes"])
        figures = kind.figures(run, settings.loss or LOSS)
    console.print(f"{name}: {', '.join(f'{curve} {shown(figure)}' for curve, figure in figures.items())} ({kind.y})")
    return figures


def run_of(flags: Sequence[str], folder: Path, name: str, *, megabytes: int, processes: int) -> Run:
    """A run in processes of its own, with a cache of its own, so that it reads the text as at the first time."""
    text, run = folder / "text", folder / "run"
    write_running_text(text, megabytes * 1_000_000)
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [sys.executable, "-m", *(torchrun if processes > 1 else []), "train.pretrain", "gpt", *flags]
    began = time.time()
    usage = run_measured([*command, "--data", str(text), "--out", str(run)], name, cache=folder / "cache")
    started = (run / STRETCHES).stat().st_mtime  # written when all input is read, before the first step
    return Run(run, started - began, usage.peak_megabytes)


def report(settings: GrowthSettings, measured: Mapping[int, Figures], folder: Path, console: Console) -> None:
    """Print the table; write figures, plot and flags."""
    kind, values = MEASUREMENTS[settings.measurement], list(measured)
    curves: dict[str, Curve] = {}
    for name in next(iter(measured.values())):
        curves[name] = [(x, y) for x, figures in measured.items() if (y := figures[name]) is not None]
    write_flags(folder / "flags.toml", settings, "measure_growth")
    write_json(folder / "results.json", [{kind.x: value, **figures} for value, figures in measured.items()])
    draw({name: points for name, points in curves.items() if points}, kind, values, folder / "picture.png")
    console.print(growth_table(kind, values, curves))
    if settings.measurement == "corpus":
        console.print(f"the entropy of the text is {nats_per_character():.3f} nats per character")
    console.print(f"figures and plot are in {folder}")


def growth_table(kind: Measurement, values: Sequence[int], curves: Mapping[str, Curve]) -> Table:
    """A row for each value; beside each curve its exponents."""
    rows = [[f"{value:,}"] for value in values]
    for points in curves.values():
        found, slopes = dict(points), exponents(points)
        for value, row in zip(values, rows, strict=True):
            row += [shown(found.get(value)), f"{slopes[value]:.2f}" if value in slopes else ""]
    columns = [kind.x, *(column for name in curves for column in (name, "exponent"))]
    return table(kind.y, columns, rows, caption="from row to row a figure grows with x to the exponent beside it")


def shown(figure: float | None) -> str:
    if figure is None:
        return "not reached"
    return f"{figure:,.1f}" if figure < 1000 else f"{figure:,.0f}"


def exponents(points: Curve) -> dict[int | float, float]:
    """The slope of log y over log x from each point's neighbour on the left to it, by x."""
    return {x: math.log(y / before_y) / math.log(x / before_x) for (before_x, before_y), (x, y) in pairwise(points)}


def draw(curves: Mapping[str, Curve], kind: Measurement, values: Sequence[int], path: Path) -> None:
    """Both axes are logarithmic, so that an exponent is a slope."""
    figure = curves_figure(curves, xlabel=kind.x, ylabel=kind.y, percent=False)
    [axes] = figure.axes
    axes.set_xscale("log")
    axes.set_yscale("log", subs=[2, 5])
    axes.set_xticks(values, labels=map("{:,}".format, values))
    axes.set_xticks([], minor=True)
    axes.yaxis.set(major_formatter="{x:,g}", minor_formatter="{x:,g}")
    for line in axes.lines:
        line.set_markevery(None)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
