"""Real jobs on a GPU, each in a process of its own. All start at once: most of their time is the start of Python."""

import json
import math
import os
import random
import subprocess
import sys
import time

import pytest
from helpers_runs import COMMON, JOBS, ROOT, write_corpora

GPT = ["gpt", "--num-layers", "2", "--d-model", "64", "--num-heads", "2", "--context", "64", "--batch-size", "8"]
GPT += ["--steps", "40", "--optimizer", "adamw", "--device", "cuda", "--checkpoint-seconds", "0"]
EXACT, DROPPED = ["--precision", "fp32", "--dropout", "0"], ["--precision", "fp32", "--dropout", "0.1"]
WAYS = {
    "plain": EXACT,
    "compiled": [*EXACT, "--compile"],
    "in shards": [*EXACT, "--fsdp"],
    "bf16": ["--precision", "bf16", "--dropout", "0"],
    "dropped": DROPPED,
    "killed": DROPPED,
}


class Job:
    """A job that has been started, and its run folder."""

    def __init__(self, script, flags, run, *, shards=False):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"] if shards else []
        self.run, self.log = run, run.with_suffix(".log")
        self.command = [sys.executable, *launcher, "-m", script, *flags, "--out", str(run), "--resume", "auto"]
        self.start()

    def start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill_after_step(self, step):
        while self.process.poll() is None and not list(self.run.rglob(f"step-*{step}")):
            time.sleep(0.002)
        assert self.process.poll() is None, self.log.read_text()
        self.process.kill()
        self.process.wait()

    def losses(self):
        """Of every step of every model, once the job has ended."""
        assert self.process.wait(timeout=300) == 0, self.log.read_text()[-3000:]
        lines = [line for path in sorted(self.run.rglob("metrics.jsonl")) for line in path.read_text().splitlines()]
        return [line["loss"] for line in map(json.loads, lines) if "lr" in line]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = write_corpora(tmp_path_factory.mktemp("jobs"))
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 1500)))  # a vocabulary for the kernel of the output layer's loss
    (folder / "letters.txt").write_text("".join(random.Random(0).choices(letters, k=20_000)), encoding="utf-8")
    data = ["--data", str(folder / "letters.txt")]
    started = {
        way: Job("train.pretrain", [*GPT, *data, *flags], folder / way.replace(" ", "-"), shards="--fsdp" in flags)
        for way, flags in WAYS.items()
    }
    common = ["cuda" if flag == "cpu" else flag for flag in COMMON]
    for name, (script, file, flags) in JOBS.items():
        run = folder / name.replace(" ", "-")
        started[name] = Job(
            script.__name__.removesuffix(".__main__"), [*flags, *common, "--data", str(folder / file)], run
        )
    yield started
    for job in started.values():
        job.process.kill()
        job.process.wait()


def test_a_killed_and_resumed_run_takes_the_steps_of_one_never_killed(jobs):
    """To rounding: some of the GPU's sums have no fixed order. Another dropout would change a loss by a hundredth."""
    jobs["killed"].kill_after_step(7)
    jobs["killed"].start()
    assert jobs["killed"].losses() == pytest.approx(jobs["dropped"].losses(), rel=1e-4)


@pytest.mark.parametrize(("way", "tolerance"), [("compiled", 1e-3), ("in shards", 1e-3), ("bf16", 2e-2)])
def test_compiled_in_shards_and_in_bfloat16_a_run_takes_the_same_steps(way, tolerance, jobs):
    plain, other = jobs["plain"].losses(), jobs[way].losses()
    assert len(plain) == 40 and plain[-1] < plain[0]
    assert other[0] == pytest.approx(plain[0], rel=tolerance / 10)
    assert other == pytest.approx(plain, rel=tolerance)
    assert "FSDP over NCCL" in jobs[way].log.read_text() or way != "in shards"


@pytest.mark.parametrize("name", JOBS)
def test_every_job_ends_with_figures(name, jobs):
    losses = jobs[name].losses()
    assert losses and all(map(math.isfinite, losses))
    assert (jobs[name].run / "results.json").stat().st_size > 100
