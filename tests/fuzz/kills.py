"""Runs that are killed or interrupted at random moments, and resumed: they end with the bits of a run left alone."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fuzz.harness import Attack, require
from fuzz.runs import different, outcome_of
from helpers_processes import Child
from helpers_runs import JOBS, ending, finish, job, made_longer, write_corpora

from train.engine import loop, run_folder


def truncate_newest(run: Path, draw: random.Random):
    """Cut the newest checkpoint of each model short, as a lost disk cache would. A finished model needs none, so that
    a resume would leave it short."""
    for folder in run.rglob("checkpoints"):
        newest = max(folder.glob("step-*"), default=None)
        if newest is not None and not (folder.parent / "results.json").exists():
            file = draw.choice(sorted(newest.iterdir()))
            os.truncate(file, draw.randrange(file.stat().st_size))


def once_begun(happening):
    """In a child: `happening` when the run folder has been made."""
    lock = run_folder.lock_run

    def lock_run(folder):
        run_folder.lock_run = lock
        happening()
        lock(folder)

    run_folder.lock_run = lock_run


def measured(action, folder: Path):
    """The processor seconds from the beginning of a run to its first batch, to its last one, and to its end; and what
    it says on standard error."""

    def timed():
        began, batches, to_device = [], [], loop.to_device
        once_begun(lambda: began.append(time.process_time()))

        def watched(*arguments):
            batches.append(time.process_time())
            return to_device(*arguments)

        loop.to_device = watched
        action()
        print(*(moment - began[0] for moment in (batches[0], batches[-1], time.process_time())), file=sys.stderr)

    *said, seconds = finish(timed, folder).err.read_text().splitlines()
    return *map(float, seconds.split()), "\n".join(said)


def end_after(processor_seconds: float, how: str):
    """In a child: let the kernel end it, between any two instructions, or press Ctrl-C, when it has worked so long.

    A time by the clock would depend on what else the machine does."""
    interrupted = lambda *_: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    signal.signal(signal.SIGPROF, signal.SIG_DFL if how == "killed" else interrupted)
    signal.setitimer(signal.ITIMER_PROF, processor_seconds)


def ended_early(action, run: Path, moment: float, how: str, folder: Path):
    """End it after so many processor seconds; earlier where it was faster this time and had nothing left to write."""

    def doomed():
        once_begun(lambda: end_after(moment, how))
        action()

    while (code := (child := Child(folder, doomed)).wait()) == 0 or (run / "results.json").exists():
        shutil.rmtree(run)
        moment *= 0.8
    if code != (-signal.SIGPROF if how == "killed" else 130):
        raise AssertionError(f"{how}: exit code {code}: {child.err.read_text()[-3000:]}")


def kills(how: str, name: str, job: Callable, folder: Path):
    """Every fifth moment is from all of the run, the others are between its first and its last step. Of the run that is
    resumed, the newest checkpoint is sound or truncated."""
    data, whole, run, said = write_corpora(folder), folder / "whole", folder / "run", folder / "said"
    first, last, end, usual = measured(job(name, data, whole), said)
    expected = ending(whole)
    if not any(path.endswith("model.safetensors") for path in expected):
        raise RuntimeError("the run left no model")

    def strike(draw):
        shutil.rmtree(run, ignore_errors=True)
        moment = draw.uniform(0, end) if draw.random() < 0.2 else draw.uniform(first, last)
        ended_early(job(name, data, run), run, moment, how, said)
        if draw.random() < 0.5:
            truncate_newest(run, draw)
        outcome_of(job(name, data, run), said, usual)
        differ = different(run, expected)
        require(not differ, f"{how} after {moment:.3f} s, and resumed: {', '.join(differ)} differ")

    return strike


ATTACKS = [
    Attack(f"{how}: {name}{longer}", partial(kills, how, name, run), share=share, seconds=120)
    for name in JOBS
    for longer, run in (("", job), (", made longer", made_longer))
    for how, share in (("killed", 2), ("interrupted", 1))
]
