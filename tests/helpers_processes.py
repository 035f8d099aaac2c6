"""Forked processes: one that is killed and watched, or several that meet over gloo."""

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from train.engine.processes import Processes


class Child:
    """`action` in a forked process, which has everything imported already; its output goes to files in `folder`."""

    def __init__(self, folder: Path, action):
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "stdout", folder / "stderr"
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(action, self.out, self.err)

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def wait(self):
        """The exit code; of a process that a signal ended, the negative number of the signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _become(action, out, err):
    code = 70  # a bug of the test's or ours
    try:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are not there in a forked process
        for path, descriptor in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")  # as Python opens it
        action()
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def together(world_size, function, *, tries=2):
    """What `function` returns in each of so many processes, by rank. Tensors and plain values can come back.

    A crash of native code is tried once more: in a forked process glibc was seen, once in thousands, to find its heap
    damaged while gloo's threads ran. Its own checks of every allocation found nothing of ours.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranks = range(world_size)
        children = [Child(folder / str(rank), partial(_work, folder, rank, world_size, function)) for rank in ranks]
        codes = [child.wait() for child in children]
        if tries > 1 and {-signal.SIGABRT, -signal.SIGSEGV} & set(codes):
            return together(world_size, function, tries=tries - 1)
        assert not any(codes), "\n".join(f"process {rank}: {children[rank].err.read_text()}" for rank in ranks)
        return [torch.load(folder / f"result-{rank}") for rank in ranks]


def _work(folder, rank, world_size, function):
    signal.alarm(600)  # far more than it takes, on however busy a machine
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    try:
        torch.save(function(Processes.current()), folder / f"result-{rank}")
    finally:
        dist.destroy_process_group()
