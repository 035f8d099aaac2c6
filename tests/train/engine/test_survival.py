"""What may befall a run, for real: signals, a full disk, a second process, changed data."""

import os
import re
import shutil
import signal
import sys
import time

import pytest
from helpers_faults import Child, mount_small_disk, require_mounts
from helpers_runs import at_batch, ending, finish, job, said_in_one_line, write_corpora

from minitransformer.data.streams import StreamWindows
from train.engine.tensor_folder import require_undamaged
from train.pretrain import __main__ as pretrain


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_its_code_and_the_same_command_goes_on(number, code, data, tmp_path):
    name, run, whole = "gpt with muon", tmp_path / "run", tmp_path / "whole"
    rare = ["--checkpoint-seconds", "1000"]

    def signalled():
        at_batch(9, StreamWindows, lambda: os.kill(os.getpid(), number))
        job(name, data, run, *rare)()

    child = Child(tmp_path / "said", signalled)
    assert child.wait() == code
    assert f"stopped; resume with: python -m train.pretrain gpt --resume {run}" in child.out.read_text()
    assert [path.name for path in run.rglob("step-*")] == ["step-00000005"]
    finish(job(name, data, run), tmp_path / "said")
    finish(job(name, data, whole), tmp_path / "said")
    assert ending(run) == ending(whole)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = finish(job(name, data, run), tmp_path / "said")
    assert again.out.read_text().startswith(f"{run} is finished: its results are in {run / 'results.json'}")
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
        pretrain_gpt = sys.modules["train.pretrain.gpt.__main__"]
        pretrain_gpt.load = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
        job("gpt with muon", data, tmp_path / "run")()

    child = Child(tmp_path / "said", terminated)
    assert child.wait() == 143
    assert child.out.read_text() == "stopped before it began\n"


def test_a_full_disk_leaves_the_old_checkpoints_and_one_line(data, tmp_path):
    require_mounts()
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    disk.mkdir()
    run, filler = disk / "run", disk / "filler"
    finish(job("gpt with muon", data, whole), tmp_path / "said")

    def fill():
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        size = max(path.stat().st_size for path in run.rglob("step-*/*"))
        filler.write_bytes(b"x" * (free - size // 2))

    def on_a_small_disk():
        mount_small_disk(disk, 2_000_000)
        original = StreamWindows.batch
        at_batch(9, StreamWindows, fill)
        with pytest.raises(SystemExit) as exit_:
            job("gpt with muon", data, run)()
        assert exit_.value.code == 2
        names = sorted(path.name for path in (run / "checkpoints").iterdir())
        assert [name for name in names if name.startswith("step")] == [f"step-0000000{n}" for n in (3, 4)]
        assert not [name for name in names if name.startswith(".")]
        for name in names:
            require_undamaged(run / "checkpoints" / name)
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
