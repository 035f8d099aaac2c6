"""One process at a time trains into a run folder."""

import os
from pathlib import Path

from minitransformer.errors import InputError

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]


def lock_run(folder: Path) -> None:
    """Hold the folder until this process ends, however it ends: the lock is the kernel's, and the file that it is on
    means nothing by itself. Raises `InputError` where another process holds it."""
    if fcntl is None:
        return
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise InputError(
            f"{folder} is in use: process {holder} trains into it; wait for it, or take another --out"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    # Left open: to close it would give the lock back.
