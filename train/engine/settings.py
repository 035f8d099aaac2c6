"""The flags that all training scripts share."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import tyro

from minitransformer.errors import InputError
from minitransformer.optim import multiplies_bfloat16
from minitransformer.validation import require_number
from train.engine.processes import local_world_size

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Settings:
    """Flags of every script. A run's length is `minutes` of training, evaluation not counted, or `steps`."""

    settings_file: ClassVar[str] = "config.json"

    minutes: float | None = None
    """Minutes of training. With --steps too, whichever comes first."""
    steps: int | None = None
    """Optimizer steps. A run measured in steps resumes bit for bit."""
    seed: int = 0
    """Seed of the weights, the order of the data and dropout."""
    device: Device = "auto"
    threads: int | None = None
    """CPU threads. Default: 1 for models under 500,000 parameters, which run no faster on more, else all cores."""
    precision: Precision = "auto"
    """auto is bf16 where the hardware multiplies it faster than fp32, else fp32."""
    out: Path | None = None
    """The run folder. Default: runs/NAME-DATE-TIME."""
    resume: str | None = None
    """A run folder to resume, or "auto": resume --out if it exists, else start it."""
    checkpoint_seconds: float | None = None
    """Seconds between checkpoints; 0 for one after every step. Default: a minute, or longer where writing would take
    more than 1% of the time."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints to keep, beside the best weights."""
    fsdp: bool = False
    """Shard the model over the processes that torchrun started (FSDP) instead of copying it to each: for large ones."""
    compile: bool = False
    """Compile the blocks with torch.compile, which needs a C++ compiler and a while at the start."""
    processes: tyro.conf.Suppress[int] = 1
    """The number of processes that began the run. A step keeps their number of batches, whatever number resumes it."""
    skip_not_finite: int = 0
    """How many steps to skip because their loss or gradient is not finite, before the run stops."""

    def validate(self) -> None:
        """Raises `InputError`. Not done on construction, where the command-line parser would wrap the message."""
        self.require(*(field.name for field in dataclasses.fields(self) if field.type in (float, float | None)))
        self.require("minutes", "steps", "threads", "keep_checkpoints", more_than=0)
        self.require("checkpoint_seconds", "skip_not_finite", at_least=0)
        self.require("seed", at_least=0, less_than=2**32)

    def require(self, *names: str, **bounds: float | int) -> None:
        """Check the range of numeric flags, with the bounds of `require_number`; None passes.

        `self.require("lr", "dropout", more_than=0)` raises `InputError` such as "--lr 0 must be more than 0".
        """
        for name in names:
            require_number(f"--{name.replace('_', '-')}", getattr(self, name), **bounds)

    def data_names(self) -> list[str]:
        """The corpora that the flag `data` names, if a script has it."""
        return [self.data] if hasattr(self, "data") else []

    def torch_device(self) -> torch.device:
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device == "auto":
            return torch.device(next(device for device, available in here.items() if available))
        if not here[self.device]:
            raise InputError(f"--device {self.device}: torch finds no such device here; try --device auto")
        return torch.device(self.device)

    def set_threads(self, num_parameters: int) -> None:
        """Small models default to one thread: where another program holds a core, threads wait for each other at every
        operation, and a small model's step was seen to take thirty times as long."""
        all_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        cores = max(1, all_cores // local_world_size())
        torch.set_num_threads(self.threads or (1 if num_parameters < 500_000 else cores))

    def safeguards(self) -> dict[str, Any]:
        """The fields of `LoopOptions` about checkpoints, faults and processes."""
        names = ("checkpoint_seconds", "keep_checkpoints", "skip_not_finite", "fsdp", "compile")
        return {name: getattr(self, name) for name in names}

    def autocast_dtype(self) -> torch.dtype | None:
        """bfloat16 for mixed precision, None for float32."""
        fast = self.precision == "auto" and multiplies_bfloat16(self.torch_device())
        return torch.bfloat16 if fast or self.precision == "bf16" else None


def distinct(flag: str, value: str) -> list[str]:
    """The names between the commas of a flag's value; `InputError` if there is none, or one twice."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{flag} {value!r}: name at least one, each once, separated by commas")
    return names
