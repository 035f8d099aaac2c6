"""Runs that are killed or interrupted end as runs left alone: every job at two moments, some at random ones."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count

import pytest
from fuzz.harness import FAULTS, run
from fuzz.kills import ATTACKS, truncate_newest
from helpers_processes import Child
from helpers_runs import JOBS, ROOT, command, ending, finish, job, write_corpora

from train.engine import loop
from train.translate import bleu, exact_match

pytestmark = pytest.mark.usefixtures("as_users_run_it")
ATTACK_OF = {attack.name: attack for attack in ATTACKS}
SLOW = [pytest.param(name, 10, marks=pytest.mark.slow) for name in ATTACK_OF]


@pytest.mark.parametrize(("name", "cases"), [("killed: bert", 2), *SLOW])
def test_a_run_ended_at_any_moment_and_resumed_ends_as_one_never_ended(name, cases, tmp_path):
    found = list(run(ATTACK_OF[name], range(cases), 0, tmp_path / "attack"))
    assert not [case for case in found if case.outcome in FAULTS]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def die():
    os._exit(9)


def at_training_batch(number, happening, action):
    """In a child: `action` without its pictures and with short translations, and `happening` as the loop takes its
    batch of this number."""
    taken, to_device = count(1), loop.to_device
    for measure in (exact_match.ExactMatch, bleu.Bleu):
        measure.draw, measure.extra_tokens = lambda *_: None, 1

    def watched(*arguments):
        if next(taken) == number:
            happening()
        return to_device(*arguments)

    loop.to_device = watched
    action()


OTHERS = ("gpt with muon", "albert")  # much as another job, or as the runs of test_survival.py
SENTENCES = "translate sentences"  # its beam search takes long, and it has four steps only
JOB_AND_MOMENTS = [*((name, 3, 4) for name in JOBS if name not in (*OTHERS, SENTENCES))]
LONG = [*((name, 3, 4) for name in OTHERS), (SENTENCES, 2, 2)]


@pytest.mark.parametrize(
    ("name", "interrupted", "killed"),
    [*JOB_AND_MOMENTS, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)],
)
def test_every_job_interrupted_then_killed_with_its_newest_checkpoint_torn_ends_as_one_left_alone(
    name, interrupted, killed, tmp_path
):
    data, whole, cut, said = write_corpora(tmp_path), tmp_path / "whole", tmp_path / "cut", tmp_path / "said"
    finish(partial(at_training_batch, 0, None, job(name, data, whole)), said)
    for number, happening, code in ((interrupted, interrupt, 130), (killed, die, 9)):
        child = Child(said, partial(at_training_batch, number, happening, job(name, data, cut)))
        assert child.wait() == code, child.err.read_text()
        assert not (cut / "results.json").exists()
    truncate_newest(cut, random.Random(0))
    finish(partial(at_training_batch, 0, None, job(name, data, cut)), said)
    assert ending(cut) == ending(whole)


class Started:
    """A job in a process of its own, in which sets and dictionaries of strings have an order of their own."""

    def __init__(self, name, data, run, hash_seed):
        script, arguments = command(name, data, run, *(["--steps", "60"] if name == "gpt with muon" else []))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(hash_seed)}
        self.run, self.process = run, subprocess.Popen(
            [sys.executable, "-m", script.__name__, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )  # fmt: skip

    def until_step(self, number):
        """Until the checkpoint of this step, or of a later one, is in place."""
        while self.process.poll() is None and newest_step(self.run) < number:
            time.sleep(0.005)


def newest_step(run):
    """0 before the first. Does not look into the checkpoints, since old ones vanish meanwhile."""
    steps = [*run.glob("checkpoints/step-*[0-9]"), *run.glob("*/checkpoints/step-*[0-9]")]
    return max((int(step.name.removeprefix("step-")) for step in steps), default=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills"), [("gpt with muon", 20), ("bert", 4), ("finetune", 4), ("translate sentences", 4)]
)
def test_a_process_killed_in_training_ends_as_one_never_killed(name, kills, tmp_path):
    """The same by the clock and from outside, on processes of their own."""
    data, whole = write_corpora(tmp_path), tmp_path / "whole"
    assert Started(name, data, whole, hash_seed=0).process.wait() == 0
    expected, last, draw, seeds = ending(whole), newest_step(whole), random.Random(0), iter(range(1, 1000))
    for number in range(kills):
        run, torn = tmp_path / f"run-{number}", tmp_path / f"torn-{number}"
        while True:
            started = Started(name, data, run, next(seeds))
            started.until_step(draw.randrange(1, last))
            time.sleep(draw.uniform(0, 0.05))
            started.process.kill()
            code = started.process.wait()
            if code == -signal.SIGKILL:
                break
            assert code == 0
            shutil.rmtree(run)  # it was faster this time
        shutil.copytree(run, torn)
        truncate_newest(torn, draw)
        for folder in (run, torn):
            assert Started(name, data, folder, next(seeds)).process.wait() == 0
            assert ending(folder) == expected
