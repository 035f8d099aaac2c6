"""`metrics.jsonl`: a JSON object a line, one for every step and every evaluation."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minitransformer.files import open_no_link


class MetricsFile:
    """Opening it drops the lines after `step`, the step of the checkpoint that the run resumes from. Without a path
    nothing is written: of several processes, rank 0 writes.

    Lines stay in memory between evaluations: a write at every step would cost small models a tenth of their speed.
    """

    def __init__(self, path: Path | None, step: int):
        self.path = path
        self.waiting: list[str] = []
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", opener=open_no_link) as file:
            file.seek(0)
            end = 0
            for line in file:
                if not _belongs(line, step):
                    break
                end += len(line)
            file.truncate(end)

    def write(self, place: Mapping[str, Any], **values: Any) -> None:
        """JSON has no infinities and no NaN: they become null."""
        line = {name: finite(value) for name, value in {**place, **values}.items()}
        self.waiting.append(json.dumps(line) + "\n")

    def flush(self, *, to_disk: bool = False) -> None:
        """Write the lines; `to_disk`: wait until they are on disk, so that they survive a crash of the machine."""
        lines, self.waiting = self.waiting, []
        if self.path is None:
            return
        with open(self.path, "a", encoding="utf-8", opener=open_no_link) as file:
            file.writelines(lines)
            file.flush()
            if to_disk:
                os.fsync(file.fileno())


def finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _belongs(line: bytes, step: int) -> bool:
    """Whether a line is complete, and of this step or an earlier one."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
