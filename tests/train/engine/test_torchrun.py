"""The scripts as a user starts them on several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from minitransformer.data.dates import date_pairs

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
SMALL = "--num-layers 1 --d-model 16 --num-heads 2"
GPT = f"pretrain gpt {SMALL} --context 12 --batch-size 3".split()
BERT = f"pretrain bert {SMALL} --context 24 --vocab-size 60".split()
FINETUNE = f"finetune --init scratch {SMALL} --no-baselines".split()
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    lines = "".join(f"{n} green bottles are hanging on the {'red' if n % 3 else 'blue'} wall. " for n in range(300))
    (folder / "text.txt").write_text(lines)
    pairs = [f"{i},{human},{iso}" for i, (human, iso, _) in enumerate(date_pairs(60, seed=3))]
    (folder / "pairs.csv").write_text("\n".join([",source,target", *pairs]) + "\n")
    labelled = [f"film {n} is {('good', 'bad')[n % 2]}\t{('positive', 'negative')[n % 2]}" for n in range(200)]
    (folder / "films.tsv").write_text("text\tlabel\n" + "\n".join(labelled) + "\n")
    return folder


def command(script, *arguments, processes=0, restarts=0):
    launcher = [*TORCHRUN, "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    start = launcher if processes else [sys.executable]
    arguments = [*script[1:], *map(str, arguments), "--device", "cpu", "--threads", "1", "--precision", "fp32"]
    return [*start, "-m", f"train.{script[0]}", *arguments]


def run(*arguments, **options):
    done = subprocess.run(
        command(*arguments, **options), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def results(folder):
    return json.loads((folder / "results.json").read_text())


def losses(folder):
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in metrics if "loss" in line]


@pytest.mark.parametrize("flags", [[], ["--fsdp"]])
@pytest.mark.parametrize(
    ("script", "file"),
    [
        ([*BERT, "--batch-tokens", "200"], "text.txt"),
        (FINETUNE, "films.tsv"),
        (["finetune", "--init", "scratch", "--encoder", "rnn", "--d-model", "16", "--no-baselines"], "films.tsv"),
        (["translate", "--models", "transformer,rnn-location"], "pairs.csv"),
    ],
    ids=["bert", "finetune", "finetune-rnn", "translate"],
)
def test_every_script_runs_on_two_processes(tmp_path, data, script, file, flags):
    run(script, "--data", data / file, "--steps", "4", "--out", tmp_path / "run", *flags, processes=2)
    found = results(tmp_path / "run")
    reports = found["models"].values() if "models" in found else [found]
    assert all(report["steps"] == 4 for report in reports)


def test_epochs_are_as_long_for_two_processes_as_for_one(tmp_path, data):
    same = ["--data", data / "films.tsv", "--epochs", "2", "--max-tokens", "100"]
    run(FINETUNE, *same, "--out", tmp_path / "two", processes=2)
    run(FINETUNE, *same, "--out", tmp_path / "one")
    assert results(tmp_path / "two")["steps"] == -(-results(tmp_path / "one")["steps"] // 2)


def wait_for_checkpoint(folder):
    deadline = time.monotonic() + 600
    while not list((folder / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)


def workers(launcher):
    """The processes that `torchrun` started, in order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"train.pretrain" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("victim", "flags"), [(0, []), (1, []), (0, ["--fsdp"]), (1, ["--fsdp"])])
def test_a_killed_process_is_started_again_and_the_run_goes_on(tmp_path, data, victim, flags):
    same = ["--data", data / "text.txt", "--steps", "200", *flags]
    again = [*same, "--checkpoint-seconds", "0", "--out", tmp_path / "two", "--resume", "auto"]
    launcher = subprocess.Popen(
        command(GPT, *again, processes=2, restarts=1),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for_checkpoint(tmp_path / "two")
    os.kill(workers(launcher)[victim], signal.SIGKILL)
    said, _ = launcher.communicate(timeout=900)
    assert launcher.returncode == 0, said[-3000:]
    assert said.count("2 processes, FSDP" if flags else "2 processes, DDP") == 2
    run(GPT, *same, "--out", tmp_path / "whole", processes=2)
    assert losses(tmp_path / "two") == losses(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "whole"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
