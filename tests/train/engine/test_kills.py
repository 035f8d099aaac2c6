"""Runs that are killed at random moments end as those never killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers_processes import Child
from helpers_runs import COMMON, JOBS, ROOT, ending, finish, job, write_corpora

from train.engine import loop, run_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("data"))


def truncate_newest(run, draw):
    """Cut the newest checkpoint of each model short, as a lost disk cache would."""
    for folder in run.rglob("checkpoints"):
        if newest := max(folder.glob("step-*"), default=None):
            file = draw.choice(sorted(newest.iterdir()))
            os.truncate(file, draw.randrange(file.stat().st_size))


def once_begun(happening):
    """In a child: `happening` when the run folder has been made."""
    lock = run_folder.lock_run

    def lock_run(folder):
        happening()
        lock(folder)

    run_folder.lock_run = lock_run


def measured(action, folder):
    """The processor seconds from the beginning of a run to its first batch, to its last one, and to its end."""

    def timed():
        began, batches, to_device = [], [], loop.to_device
        once_begun(lambda: began.append(time.process_time()))

        def watched(*arguments):
            batches.append(time.process_time())
            return to_device(*arguments)

        loop.to_device = watched
        action()
        print(*(moment - began[0] for moment in (batches[0], batches[-1], time.process_time())), file=sys.stderr)

    return map(float, finish(timed, folder).err.read_text().splitlines()[-1].split())


def end_after(processor_seconds):
    """In a child: let the kernel end it, between any two instructions, when it has worked so long more.

    A time by the clock would depend on what else the machine does."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, processor_seconds)


def killed(action, run, moment, folder):
    """Kill it after so many processor seconds; earlier where it was faster this time and had nothing left to write."""

    def doomed():
        once_begun(lambda: end_after(moment))
        action()

    while (code := Child(folder, doomed).wait()) == 0 or (run / "results.json").exists():
        shutil.rmtree(run)
        moment *= 0.8
    assert code == -signal.SIGPROF


def survives(name, data, tmp_path, *, kills):
    """Kill the job at random moments, and resume it: with all that it left, and with the newest checkpoint truncated.

    Every fifth moment is from all of the run, the others are between its first and its last step.
    """
    whole = tmp_path / "whole"
    first, last, end = measured(job(name, data, whole), tmp_path / "said")
    expected = ending(whole)
    assert any(path.endswith("model.safetensors") for path in expected)
    draw = random.Random(name)
    while_training = 0
    for number in range(kills):
        run, torn = tmp_path / f"run-{number}", tmp_path / f"torn-{number}"
        share = draw.uniform(number, number + 1) / kills
        moment = share * end if number % 5 == 4 else first + share * (last - first)
        killed(job(name, data, run), run, moment, tmp_path / "said")
        # Several models are trained one after another; the last is saved when training is over.
        is_trained = len(list(run.rglob("model.safetensors"))) == len(list(whole.rglob("model.safetensors")))
        while_training += bool(list(run.rglob("step-*"))) and not is_trained
        shutil.copytree(run, torn)
        truncate_newest(torn, draw)
        for folder in (run, torn):
            finish(job(name, data, folder), tmp_path / "said")
            assert ending(folder) == expected, (folder, moment)
            shutil.rmtree(folder)
    assert while_training > kills / 3  # the first step of those in training has no checkpoint behind it


def test_a_run_killed_at_any_moment_and_resumed_ends_as_one_never_killed(data, tmp_path):
    survives("bert", data, tmp_path, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_every_job_killed_at_many_moments_ends_as_one_never_killed(name, data, tmp_path):
    survives(name, data, tmp_path, kills=5 if name == "translate sentences" else 20)  # whose model is a larger one


class Started:
    """A job in a process of its own, in which sets and dictionaries of strings have an order of their own."""

    def __init__(self, name, data, run, hash_seed):
        script, file, flags = JOBS[name]
        steps = ["--steps", "60"] if name == "gpt with muon" else []
        command = [*flags, *COMMON, *steps, "--data", str(data / file), "--out", str(run), "--resume", "auto"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(hash_seed)}
        self.run, self.process = run, subprocess.Popen(
            [sys.executable, "-m", script.__name__, *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )  # fmt: skip

    def until_training(self):
        while self.process.poll() is None and not list(self.run.rglob("step-*")):
            time.sleep(0.005)
        assert self.process.poll() is None
        return time.monotonic()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills"), [("gpt with muon", 20), ("bert", 4), ("finetune", 4), ("translate sentences", 4)]
)
def test_a_process_killed_in_training_ends_as_one_never_killed(name, kills, data, tmp_path):
    """The same by the clock and from outside, on processes of their own."""
    whole = tmp_path / "whole"
    started = Started(name, data, whole, hash_seed=0)
    began = started.until_training()
    while not list(whole.rglob("model.safetensors")):
        time.sleep(0.005)
    seconds = time.monotonic() - began
    assert started.process.wait() == 0
    expected, draw, seeds = ending(whole), random.Random(0), iter(range(1, 1000))
    for number in range(kills):
        run, torn = tmp_path / f"run-{number}", tmp_path / f"torn-{number}"
        wait = draw.uniform(0, seconds)
        while True:
            started = Started(name, data, run, next(seeds))
            started.until_training()
            time.sleep(wait)
            started.process.kill()
            if started.process.wait() == -signal.SIGKILL and not list(run.rglob("model.safetensors")):
                break
            shutil.rmtree(run)  # it was faster this time
            wait *= 0.7
        shutil.copytree(run, torn)
        truncate_newest(torn, draw)
        for folder in (run, torn):
            assert Started(name, data, folder, next(seeds)).process.wait() == 0
            assert ending(folder) == expected
