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
    """Lock the folder until this process ends. The operating system releases the lock however the process ends; the
    file `.lock` means nothing by itself. Raises `InputError` if another process holds the lock."""
    if fcntl is None:
        return
    descriptor = open_no_link(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise InputError(
            f"{folder} is in use: process {holder} trains into it; wait for it, or choose another --out"
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
    # Left open: closing it would release the lock.
