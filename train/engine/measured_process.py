"""A command in a process of its own, and the memory and time that it took."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minitransformer.errors import InputError


@dataclass(frozen=True)
class Usage:
    """`peak_megabytes` of resident memory include the pages of mapped files that are in use. `processor_seconds` hardly
    change with what else the machine does."""

    peak_megabytes: float
    processor_seconds: float


def run_measured(command: Sequence[str], name: str, *, cache: Path) -> Usage:
    """Run the command with the cache folder `cache`, and drop what it prints. `InputError` with the last line of its
    standard error if it fails; `name` says what failed."""
    environment = os.environ | {"MINITRANSFORMER_CACHE": str(cache)}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace").splitlines() or [f"exit code {process.returncode}"]
            raise InputError(f"{name} failed: {said[-1]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Usage(peak, usage.ru_utime + usage.ru_stime)
