"""The commands of the README, run one after another."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEW_STEPS = ["--steps", "10", "--evaluations", "1", "--threads", "1"]


def run(words, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path):
    """What `make translate` runs, for ten steps, then the commands that take its run folder."""
    made = subprocess.run(["make", "-n", "translate"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    job = shlex.split(made.splitlines()[-1])[2:]
    assert job == ["train.translate"]
    run([*job, *FEW_STEPS, "--out", str(tmp_path / "runs/translate-...")], ROOT)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^minitransformer .*$", page, flags=re.M)
    assert [shlex.split(command)[1] for command in commands] == ["attend", "translate"]
    for command in commands:
        printed = run(shlex.split(command, comments=True), tmp_path)
        assert printed.count("\n") == 1
    assert (tmp_path / "page.html").stat().st_size > 10_000
