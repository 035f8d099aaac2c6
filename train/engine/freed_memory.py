"""Freed memory that is kept for the next step."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h's numbers


def keep_freed_memory() -> None:
    """Let glibc hold on to freed memory instead of returning it to the system.

    glibc returns every piece above 32 MB at once, and the next step's tensor of that size gets new pages, which the
    system fills with zeros first: the loss over a vocabulary of 8,000 was seen to take four times as long. On other
    systems nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
