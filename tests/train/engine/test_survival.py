"""What may befall a run, for real: signals, a full disk, a second process, changed data."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from functools import partial

import pytest
from helpers_processes import Child
from helpers_runs import at_batch, ending, finish, job, said_in_one_line, write_corpora

from minitransformer.data.streams import StreamWindows
from train.engine.tensor_folder import require_undamaged
from train.pretrain import __main__ as pretrain

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What a run leaves that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    finish(job("gpt with muon", data, folder / "run"), folder / "said")
    return ending(folder / "run")


@pytest.mark.parametrize(("number", "code", "moves"), [(signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)])
def test_a_run_that_a_signal_stopped_resumes_where_it_is_or_elsewhere(number, code, moves, data, whole, tmp_path):
    run, again = tmp_path / "run", job("gpt with muon", data, tmp_path / "run")

    def stop():
        os.kill(os.getpid(), number)
        if number == signal.SIGTERM:  # again, as supervisors do: it still takes its step to the end
            os.kill(os.getpid(), number)

    def signalled():
        at_batch(9, StreamWindows, stop)
        job("gpt with muon", data, run, "--checkpoint-seconds", "1000")()

    child = Child(tmp_path / "said", signalled)
    assert child.wait() == code
    assert f"stopped; resume with: python -m train.pretrain gpt --resume {run}" in child.out.read_text()
    assert [path.name for path in run.rglob("step-*")] == ["step-00000005"]
    if moves:
        (elsewhere := tmp_path / "elsewhere").mkdir()
        moved = shutil.copy(data / "bottles.txt", elsewhere)
        run = run.rename(elsewhere / "run")
        flags = ["--resume", str(run), "--data", str(moved), "--checkpoint-seconds", "0"]
        again = partial(pretrain.main, ["gpt", *flags])
    finish(again, tmp_path / "said")
    assert ending(run) == whole
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said = finish(again, tmp_path / "said").out.read_text()
    assert said.startswith(f"{run} is finished: its results are in {run / 'results.json'}")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert (tmp_path / "run").exists() == (not moves)


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


@pytest.mark.parametrize(("sink", "code", "says"), [("a closed pipe", 141, []), ("/dev/full", 2, ["error: "])])
def test_a_run_whose_output_nobody_takes_stops_with_a_checkpoint(sink, code, says, data, whole, tmp_path):
    def close():
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing if sink == "a closed pipe" else os.open(sink, os.O_WRONLY), 1)

    def unheard():
        at_batch(9, StreamWindows, close)
        job("gpt with muon", data, tmp_path / "run", "--checkpoint-seconds", "1000")()

    child = Child(tmp_path / "said", unheard)
    assert child.wait() == code
    lines = child.err.read_text().splitlines()
    assert [line[: len("error: ")] for line in lines if not line.startswith("warning: ")] == says
    assert [path.name for path in (tmp_path / "run").rglob("step-*")] == ["step-00000005"]
    finish(job("gpt with muon", data, tmp_path / "run"), tmp_path / "said")
    assert ending(tmp_path / "run") == whole


def require_mounts():
    """Skip the test where this user may not mount a file system of its own."""
    namespaces = ["-m"] if os.getuid() == 0 else ["-r", "-m"]
    tried = subprocess.run(["unshare", *namespaces, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if tried.returncode:
        pytest.skip(f"no small disk here: {tried.stderr.decode().strip()}")


def mount_small_disk(folder, size):
    """In a child: a file system of `size` bytes on `folder`, which this process alone sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, private, recursive = 0x20000, 0x10000000, 1 << 18, 16384
    flags = new_mounts if os.getuid() == 0 else new_mounts | new_user
    assert libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
    assert libc.mount(b"none", b"/", None, private | recursive, None) == 0, os.strerror(ctypes.get_errno())
    mounted = libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode())
    assert mounted == 0, os.strerror(ctypes.get_errno())


def test_a_full_disk_leaves_the_old_checkpoints_and_one_line(data, whole, tmp_path):
    require_mounts()
    disk = tmp_path / "disk"
    disk.mkdir()
    run, filler = disk / "run", disk / "filler"

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
        filler.unlink()
        StreamWindows.batch = original
        job("gpt with muon", data, run)()
        assert ending(run) == whole

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
