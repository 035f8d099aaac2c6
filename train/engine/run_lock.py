"""One process at a time trains into a run folder."""

import errno
import os
import warnings
from pathlib import Path

from minitransformer.errors import InputError
from minitransformer.files import open_no_link

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]


def lock_run(folder: Path) -> None:
    """Hold the folder until this process ends, however it ends: the lock is the kernel's, and the file that it is on
    means nothing by itself. Raises `InputError` where another process holds it."""
    if fcntl is None:
        return
    descriptor = open_no_link(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise InputError(
            f"{folder} is in use: process {holder} trains into it; wait for it, or take another --out"
        ) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        warnings.warn(
            f"{folder} cannot be locked ({error.strerror}): see that nothing else trains into it", stacklevel=2
        )
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    # Left open: to close it would give the lock back.
