"""Faults for real: processes that are forked, killed and watched, and a disk that is full."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest


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
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        action()
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def end_after(processor_seconds):
    """Let the kernel end this process, between any two instructions, as SIGKILL would, when it has worked so long more.
    The clock on the wall would tell more of what else the machine does."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, processor_seconds)


def require_mounts():
    """Skip the test where this user may not mount a file system of its own."""
    tried = subprocess.run(["unshare", *_namespaces(), "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if tried.returncode:
        pytest.skip(f"no small disk here: {tried.stderr.decode().strip()}")


def mount_small_disk(folder: Path, size: int):
    """In a child: a file system of `size` bytes on `folder`, which this process alone sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, private, recursive = 0x20000, 0x10000000, 1 << 18, 16384
    flags = new_mounts if os.getuid() == 0 else new_mounts | new_user
    assert libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
    assert libc.mount(b"none", b"/", None, private | recursive, None) == 0, os.strerror(ctypes.get_errno())
    mounted = libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode())
    assert mounted == 0, os.strerror(ctypes.get_errno())


def _namespaces():
    return ["-m"] if os.getuid() == 0 else ["-r", "-m"]
