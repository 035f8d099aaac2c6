"""What may befall a run, for real: signals, kills, a full disk, a second process, changed data."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# These two are here so that they are not loaded anew in every process that is forked: optimizers load the second.
import datasets  # noqa: F401
import pytest
import torch._dynamo  # noqa: F401
from helpers_faults import Child, end_after, mount_small_disk, require_mounts

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.streams import StreamWindows
from train import finetune, pretrain, settings, translate
from train.feed import Feed
from train.sealed import check_seal

ROOT = Path(__file__).parents[2]
SMALL = ["--num-layers", "1", "--d-model", "16", "--num-heads", "2"]
COMMON = ["--device", "cpu", "--threads", "1", "--precision", "bf16", "--checkpoint-seconds", "0"]
GPT = ["gpt", *SMALL, "--context", "12", "--batch-size", "3", "--steps", "8", "--dropout", "0.1", "--accumulate", "2"]
BERT = ["bert", *SMALL, "--context", "24", "--batch-tokens", "200", "--steps", "8", "--dropout", "0.1"]
CLASSIFIER = ["--init", "scratch", "--encoder", "bert", *SMALL, "--dropout", "0.1", "--steps", "8", "--no-baselines"]
JOBS = {
    "gpt with muon": (pretrain, "bottles.txt", [*GPT, "--optimizer", "muon"]),
    "gpt with adamw": (pretrain, "bottles.txt", [*GPT, "--optimizer", "adamw"]),
    "bert": (pretrain, "bottles.txt", [*BERT, "--accumulate", "2", "--vocab-size", "90"]),
    "albert": (pretrain, "bottles.txt", [*BERT, "--objective", "albert", "--optimizer", "adamw", "--vocab-size", "90"]),
    "finetune": (finetune, "labels.tsv", [*CLASSIFIER, "--max-tokens", "100"]),
    # Dropout, AdamW and accumulation; the talk's plain SGD, with a coin at every batch.
    "translate": (
        translate,
        "pairs.tsv",
        ["--models", "transformer,talk", "--dropout", "0.1", "--accumulate", "2", "--steps", "6", "--evaluations", "3"],
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    colours = ("green", "red", "blue", "white")
    lines = [f"{n} {colours[n % 4]} bottles are hanging on the {colours[n % 3]} wall" for n in range(80)]
    (folder / "bottles.txt").write_text(". ".join(lines) + ".\n", encoding="utf-8")
    rows = "".join(f"{line}\t{'odd' if n % 2 else 'even'}\n" for n, line in enumerate(lines))
    (folder / "labels.tsv").write_text(f"text\tlabel\n{rows}", encoding="utf-8")
    pairs = "".join(f"{n} {colours[n % 4]}\t{n * 7 % 100}\n" for n in range(60))
    (folder / "pairs.tsv").write_text(f"source\ttarget\n{pairs}", encoding="utf-8")
    return folder


def job(name, data, out, *more):
    """The function that runs it and its command line, the same every time."""
    script, file, flags = JOBS[name]
    arguments = [*flags, *COMMON, "--data", str(data / file), "--out", str(out), "--resume", "auto", *more]
    return lambda: script.main(arguments)


def finish(action, folder):
    child = Child(folder, action)
    assert child.wait() == 0, child.err.read_text()
    return child


def ending(run):
    """All that a run leaves, but for the time it took and where its data lay."""
    left = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.name == "metrics.jsonl":
            left[name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "results.json":
            left[name] = timeless(json.loads(path.read_text()))
        elif path.suffix == ".safetensors" and path.parent.name != "checkpoints":
            left[name] = path.read_bytes()
        elif "tokenizer" in path.name:
            left[name] = path.read_text()
        elif path.suffix != ".json" and path.name != ".lock":  # settings hold the folder's name, checkpoints the time
            left[name] = None
    return left


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if "second" not in key and key != "data"}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def truncate_newest(run, draw):
    """Cut the newest checkpoint of each model short, as a lost disk cache would."""
    for folder in run.rglob("checkpoints"):
        if newest := max(folder.glob("step-*"), default=None):
            os.truncate(newest, draw.randrange(newest.stat().st_size))


def once_begun(happening):
    """In a child: `happening` when the run folder has been made."""
    lock = settings.lock_run

    def lock_run(folder):
        happening()
        lock(folder)

    settings.lock_run = lock_run


def survives(name, data, tmp_path, *, kills):
    """Kill the job at random moments, and go on: with all that it left, and with the newest checkpoint truncated."""
    whole = tmp_path / "whole"

    def timed():
        began = []
        once_begun(lambda: began.append(time.process_time()))
        job(name, data, whole)()
        print(time.process_time() - began[0], file=sys.stderr)

    seconds = float(finish(timed, tmp_path / "said").err.read_text().split()[-1])
    expected = ending(whole)
    assert any(path.endswith("model.safetensors") for path in expected)
    draw = random.Random(name)
    resumed = 0
    for number in range(kills):
        run, torn = tmp_path / f"run-{number}", tmp_path / f"torn-{number}"
        moment = draw.uniform(number, number + 0.9) / kills * seconds

        def killed(run=run, moment=moment):
            once_begun(lambda: end_after(moment))
            job(name, data, run)()

        child = Child(tmp_path / "said", killed)
        assert child.wait() in (-signal.SIGPROF, 0)
        resumed += bool(list(run.rglob("step-*")))
        shutil.copytree(run, torn)
        truncate_newest(torn, draw)
        for folder in (run, torn):
            finish(job(name, data, folder), tmp_path / "said")
            assert ending(folder) == expected, (folder, moment)
            shutil.rmtree(folder)
    assert resumed  # and not always started again


def test_a_run_killed_at_any_moment_and_resumed_ends_as_one_never_killed(data, tmp_path):
    survives("bert", data, tmp_path, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_every_job_killed_at_twenty_moments_ends_as_one_never_killed(name, data, tmp_path):
    survives(name, data, tmp_path, kills=20)


@pytest.mark.slow
def test_a_process_killed_at_twenty_moments_ends_as_one_never_killed(data, tmp_path):
    """The same by the clock and from outside, on processes of their own."""

    def command(out):
        flags = [*JOBS["gpt with muon"][2], *COMMON, "--steps", "60", "--data", str(data / "bottles.txt")]
        return [sys.executable, "-m", "train.pretrain", *flags, "--out", str(out), "--resume", "auto"]

    def start(out):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command(out), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    whole = tmp_path / "whole"
    process = start(whole)
    while not whole.exists():
        time.sleep(0.01)
    began = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - began
    expected, draw = ending(whole), random.Random(0)
    for number in range(20):
        run, torn = tmp_path / f"run-{number}", tmp_path / f"torn-{number}"
        process = start(run)
        while not run.exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.wait()
        shutil.copytree(run, torn)
        truncate_newest(torn, draw)
        for folder in (run, torn):
            assert start(folder).wait() == 0
            assert ending(folder) == expected


def at_batch(number, feed, happening):
    """In a child: `happening` while the batch of this number is made."""
    original, made = feed.batch, []

    def batch(self, rows):
        made.append(rows)
        if len(made) == number:
            happening()
        return original(self, rows)

    feed.batch = batch


FEEDS = {"gpt with muon": StreamWindows, "bert": MaskedBatches, "finetune": Feed, "translate": Feed}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_its_code_and_the_same_command_goes_on(number, code, data, tmp_path):
    name, run, whole = "gpt with muon", tmp_path / "run", tmp_path / "whole"
    rare = ["--checkpoint-seconds", "1000"]

    def signalled():
        at_batch(9, StreamWindows, lambda: os.kill(os.getpid(), number))
        job(name, data, run, *rare)()

    child = Child(tmp_path / "said", signalled)
    assert child.wait() == code
    assert f"stopped; to go on: python -m train.pretrain gpt --resume {run}" in child.out.read_text()
    assert [path.name for path in run.rglob("step-*")] == ["step-00000005.safetensors"]
    finish(job(name, data, run), tmp_path / "said")
    finish(job(name, data, whole), tmp_path / "said")
    assert ending(run) == ending(whole)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = finish(job(name, data, run), tmp_path / "said")
    assert "results, model and tokenizer are in" in again.out.read_text()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_second_ctrl_c_breaks_in_at_once(data, tmp_path):
    def stuck():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)

    def interrupted():
        at_batch(5, StreamWindows, stuck)
        job("gpt with muon", data, tmp_path / "run", "--checkpoint-seconds", "1000")()

    child = Child(tmp_path / "said", interrupted)
    assert child.wait() == 130
    assert not list((tmp_path / "run").rglob("step-*"))  # as the end of the step would have left


def test_sigterm_outside_of_training_has_the_same_code(data, tmp_path, monkeypatch):
    def terminated():
        pretrain_gpt = sys.modules["train.pretrain_gpt"]
        pretrain_gpt.read_texts = lambda name: os.kill(os.getpid(), signal.SIGTERM)
        job("gpt with muon", data, tmp_path / "run")()

    child = Child(tmp_path / "said", terminated)
    assert child.wait() == 143
    assert child.out.read_text() == "stopped before it began\n"


def said_in_one_line(child):
    """The one line about what went wrong, beside warnings."""
    (line,) = [line for line in child.err.read_text().splitlines() if not line.startswith("warning: ")]
    return line


def test_a_full_disk_leaves_the_old_checkpoints_and_one_line(data, tmp_path):
    require_mounts()
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    disk.mkdir()
    run, filler = disk / "run", disk / "filler"
    finish(job("gpt with muon", data, whole), tmp_path / "said")

    def fill():
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        size = max(path.stat().st_size for path in run.rglob("step-*"))
        filler.write_bytes(b"x" * (free - size // 2))

    def on_a_small_disk():
        mount_small_disk(disk, 2_000_000)
        original = StreamWindows.batch
        at_batch(9, StreamWindows, fill)
        with pytest.raises(SystemExit) as exit_:
            job("gpt with muon", data, run)()
        assert exit_.value.code == 2
        names = sorted(path.name for path in (run / "checkpoints").iterdir())
        assert [name for name in names if name.startswith("step")] == [f"step-0000000{n}.safetensors" for n in (3, 4)]
        assert not [name for name in names if name.startswith(".")]
        for name in names:
            check_seal(run / "checkpoints" / name)
        # With room again, the run goes on as if nothing had been.
        filler.unlink()
        StreamWindows.batch = original
        job("gpt with muon", data, run)()
        assert ending(run) == ending(whole)

    child = Child(tmp_path / "said", on_a_small_disk)
    assert child.wait() == 0, child.err.read_text()
    assert re.fullmatch(r"error: No space left on device: \S*/run/\S+", said_in_one_line(child))


def test_a_second_run_in_a_folder_is_refused_while_the_first_lives_and_no_longer(data, tmp_path):
    run = tmp_path / "run"

    def slow():
        at_batch(5, StreamWindows, lambda: time.sleep(100))
        job("gpt with muon", data, run)()

    first = Child(tmp_path / "first", slow)
    while not list(run.rglob("step-00000002*")):
        time.sleep(0.01)
    second = Child(tmp_path / "second", job("gpt with muon", data, run))
    assert second.wait() == 2
    assert f"{run} is in use: process {first.pid} trains into it" in said_in_one_line(second)
    first.kill()
    first.wait()
    finish(job("gpt with muon", data, run), tmp_path / "second")


def test_a_run_moved_elsewhere_with_its_data_goes_on(data, tmp_path):
    whole, old, new, elsewhere = (tmp_path / name for name in ("whole", "old", "new", "elsewhere"))
    elsewhere.mkdir()
    finish(job("gpt with muon", data, whole), tmp_path / "said")

    def terminated():
        at_batch(9, StreamWindows, lambda: os.kill(os.getpid(), signal.SIGTERM))
        job("gpt with muon", data, old)()

    assert Child(tmp_path / "said", terminated).wait() == 143
    shutil.move(old, new)
    moved = shutil.copy(data / "bottles.txt", elsewhere)
    finish(lambda: pretrain.main(["gpt", "--resume", str(new), "--data", str(moved)]), tmp_path / "said")
    assert not old.exists()
    assert ending(new) == ending(whole)


@pytest.mark.parametrize("name", ["gpt with muon", "finetune"])
def test_changed_data_is_refused(name, data, tmp_path):
    own = tmp_path / "data"
    shutil.copytree(data, own)

    def terminated():
        at_batch(5, FEEDS[name], lambda: os.kill(os.getpid(), signal.SIGTERM))
        job(name, own, tmp_path / "run")()

    assert Child(tmp_path / "said", terminated).wait() == 143
    file = own / JOBS[name][1]
    file.write_text(file.read_text().replace("40", "41"))
    child = Child(tmp_path / "said", job(name, own, tmp_path / "run"))
    assert child.wait() == 2
    line = said_in_one_line(child)
    assert re.search(
        rf"the data has changed since \S+ began: {file.name} was [0-9a-f]{{64}} and is [0-9a-f]{{64}}", line
    )


def test_a_loss_that_is_not_finite_stops_the_run_and_its_batch_is_written_down(data, tmp_path):
    run = tmp_path / "run"
    child = Child(tmp_path / "said", job("gpt with adamw", data, run, "--lr", "1e30", "--warmup-steps", "0"))
    assert child.wait() == 2
    (entry,) = json.loads((run / "not-finite.json").read_text())
    assert f"at step {entry['step']}, whose batch is in {run / 'not-finite.json'}" in said_in_one_line(child)
    assert [len(rows) for rows in entry["rows"]] == [3, 3]
    assert "nan" in (entry["loss"], entry["gradient_norm"])
