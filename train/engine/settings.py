"""The flags that all training scripts share, and the options of the loop that follow from them."""

import dataclasses
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import tyro
from torch import Tensor

from minitransformer.checks import Count, CountOrZero, Range, Seed, flag_name, require_number, require_ranges
from minitransformer.errors import InputError
from minitransformer.processor import multiplies_bfloat16
from train.engine.loggers import logger_classes
from train.engine.presets import Preset
from train.engine.processes import Processes, launched, local_world_size
from train.engine.state import State

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
Minutes = Annotated[float, Range(more_than=0, at_most=10_000_000)]
Threads = Annotated[int, Range(more_than=0, at_most=1024)]
VocabSize = Annotated[int, Range(more_than=0, at_most=1_000_000)]
"""A larger one would take its memory before it has read a text."""
Accumulate = Annotated[int, Range(more_than=0, at_most=10_000)]
LearningRate = Annotated[float, Range(at_least=1e-12, at_most=1000)]
"""A smaller rate changes no float32 weight."""


@dataclass(frozen=True)
class RunOptions:
    """What flags say that the loop takes as it is: a run's length, checkpoints, faults and processes."""

    minutes: Minutes | None = None
    """Minutes of training. With --steps too, whichever comes first."""
    steps: Count | None = None
    """Optimizer steps. A run measured in steps resumes bit for bit. With --resume, more steps or minutes than the run
    had make it longer: the learning rate starts at --lr again and falls to the new end."""
    checkpoint_seconds: Annotated[float, Range(at_least=0)] | None = None
    """Seconds between checkpoints; 0 for one after every step. Default: a minute, or longer where writing would take
    more than 1% of the time."""
    keep_checkpoints: Count = 2
    """How many of the latest checkpoints to keep, beside the best weights."""
    fsdp: bool = False
    """Shard the model over the processes that torchrun started (FSDP) instead of copying it to each: for large ones."""
    compile: bool = False
    """Compile the blocks with torch.compile: on a GPU. It needs a C++ compiler and a while at the start."""
    skip_not_finite: CountOrZero = 0
    """How many steps to skip because their loss or gradient is not finite, before the run stops."""
    log: str | None = None
    """Where figures and samples go besides the run folder: tensorboard, or MODULE:CLASS of a logger of your own."""
    run_id: tyro.conf.Suppress[str] = ""
    """A random name. The run's checkpoints hold it too, so that a checkpoint of another run is recognised."""
    stretch: tyro.conf.Suppress[Count] = 1
    """How many lengths the run has had: see `stretches`."""


@dataclass(frozen=True)
class Configurable:
    """The flag of every command."""

    config: Path | None = None
    """A TOML file of flags, by their names (`max-tokens = 4096`); flags on the command line win. All flags are written
    beside the results as such a file, which repeats the command."""


@dataclass(frozen=True)
class Settings(Configurable, RunOptions):
    """Flags of every script. A run's length is `minutes` of training, evaluation not counted, or `steps`."""

    settings_file: ClassVar[str] = "config.json"
    reads_documents: ClassVar[bool] = False
    """Whether `data` may be a folder or a glob of texts."""
    other_names: ClassVar[dict[str, str]] = {}
    """The flags, by the name of the field, of parameters that are called otherwise in the library."""
    finished_once: ClassVar[tuple[str, ...]] = ()
    """Parts of a run that stay as they are when it is made longer."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    """The values of the flag `preset`, if a script has it."""

    seed: Seed = 0
    """Seed of the weights, the order of the data and dropout."""
    device: Device = "auto"
    threads: Threads | None = None
    """CPU threads. Default: 1 for models under 500,000 parameters, which run no faster on more, else all cores."""
    precision: Precision = "auto"
    """auto is bf16 where the hardware multiplies it faster than fp32, else fp32."""
    out: Path | None = None
    """The run folder. Default: runs/NAME-DATE-TIME."""
    resume: str | None = None
    """A run folder to resume, or "auto": resume --out if it exists, else start it."""
    job: tyro.conf.Suppress[str] = ""
    """What comes after `python -m train.`; empty in a part of another job."""
    processes: tyro.conf.Suppress[int] = 1
    """The number of processes that began the run. A step keeps their number of batches, whatever number resumes it."""
    given: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The flags of the command line, by the names of their fields."""

    def validate(self) -> None:
        """Raises `InputError`. Not done on construction, where the command-line parser would wrap the message."""
        require_ranges(self)
        name = self.preset_name
        if name is not None and name not in self.presets:
            raise InputError(f"--preset {name}: the presets are {', '.join(self.presets)}")
        logger_classes(self.log)
        if "fsdp" in self.given and not launched() and Processes.current().world_size == 1:
            raise InputError("--fsdp: no effect in one process that torchrun did not start; leave this out")
        if self.compile and self.torch_device().type == "cpu":
            slower = "compiled steps take 1.7 times as long on a CPU, and compiling takes minutes"
            raise InputError(f"--compile: {slower}; leave it out")

    @property
    def preset_name(self) -> str | None:
        return getattr(self, "preset", None)

    def chosen_preset(self) -> Preset | None:
        return self.presets.get(self.preset_name or "")

    def is_given(self, name: str) -> bool:
        """Whether the flag of this field, if there is one, was chosen by the user, and not by a preset."""
        defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(self)}
        if preset := self.chosen_preset():
            defaults |= preset.flags
        return name in self.given or (name in defaults and getattr(self, name) != defaults[name])

    def refuse_idle(self, where: str, *names: str) -> None:
        """`InputError` if one of these flags is given, which has no effect `where`: "beside --init RUN". A preset that
        gives one is a warning."""
        if given := list(filter(self.is_given, names)):
            raise InputError(f"{', '.join(map(flag_name, given))}: no effect {where}; leave this out")
        preset = self.chosen_preset()
        if preset and (idle := [name for name in names if name in preset.flags]):
            its = f"--preset {self.preset_name}: its {', '.join(map(flag_name, idle))}"
            warnings.warn(f"{its}: no effect {where}", stacklevel=2)

    def warn_of_batches(self, name: str, lengths: Tensor) -> None:
        """Warnings if the field `name`, the tokens of the largest batch, is given and is more than all training data
        have, or less than some rows have; `lengths` as `token_batches` takes them."""
        if self.is_given(name):
            flag, sizes = f"{flag_name(name)} {getattr(self, name):,}", lengths.view(len(lengths), -1)
            if len(sizes) * int(sizes.amax(dim=0).sum()) <= getattr(self, name):
                warnings.warn(f"{flag}: all training data have less, so an epoch is one batch", stacklevel=2)
            if over := int((sizes.sum(dim=1, dtype=torch.int32) > getattr(self, name)).sum()):
                warnings.warn(
                    f"{flag}: {over:,} of {len(sizes):,} training rows have more tokens, and are batches of their own",
                    stacklevel=2,
                )

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

    def run_options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(RunOptions)}

    def loop_options(self, *, minutes: float | None = None, **options: Any) -> "LoopOptions":
        """A run without --minutes and --steps has so many `minutes`; `options` are further fields of `LoopOptions`.
        Warnings name flags that such a run is too short for."""
        length = minutes if self.minutes is None and self.steps is None else self.minutes
        given = tuple(filter(self.is_given, ("evaluations", "patience", "warmup_steps", "warmup")))
        common = {"autocast": self.autocast_dtype(), "given": given, **self.run_options(), "minutes": length}
        made = LoopOptions(**{**common, **options})
        if made.steps is not None:
            made.warn_of_idle(made.steps)
        return made

    def autocast_dtype(self) -> torch.dtype | None:
        """bfloat16 for mixed precision, None for float32."""
        fast = self.precision == "auto" and multiplies_bfloat16(self.torch_device())
        return torch.bfloat16 if fast or self.precision == "bf16" else None


@dataclass(frozen=True, kw_only=True)
class LoopOptions(RunOptions):
    """How to train one model. Its length is `steps`, `minutes` of training, or whichever comes first."""

    lr: float
    """The peak learning rate."""
    schedule: Literal["linear", "cosine", "wsd", "constant", "noam"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises to the peak."""
    final_lr: float = 0.0
    """The learning rate at the end of the run, as a share of the peak."""
    clip: float | None = 1.0
    """The largest norm of all gradients together. None: any."""
    accumulate: int = 1
    """Batches in a step, of all processes together."""
    loss_reduction: Literal["mean", "sum"] = "mean"
    """Whether each term of the loss is divided by its number of targets in a step."""
    evaluations: int = 20
    """How often to evaluate, evenly over the run."""
    patience: int | None = None
    """Stop after so many evaluations without a better one."""
    unit: str = "tokens"
    """What targets are called in progress and metrics."""
    choices: int | None = None
    """The tokens or labels that a target is one of. To guess among them has a mean loss of the logarithm, in nats."""
    autocast: torch.dtype | None = None
    """The type of matrix products: torch.bfloat16 for mixed precision, None for float32."""
    keep_evaluated: bool = False
    """Keep the weights of every evaluation, for `averaging`."""
    starts_trained: bool = False
    """Evaluate before the first step, too, and warn in the end if training made the model worse."""
    from_step: int = 0
    from_seconds: float = 0.0
    """Where the stretch began."""
    given: tuple[str, ...] = ()
    """The flags among these options that the user gave."""

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InputError("a run needs a length: give steps or minutes")

    def warn_of_idle(self, steps: int) -> None:
        """Warnings name the flags of the user that a run of so many steps is too short for."""
        possible = min(self.evaluations, steps)
        if "evaluations" in self.given and possible < self.evaluations:
            warnings.warn(f"--evaluations {self.evaluations}: a run of {possible} steps has {possible}", stacklevel=3)
        if "patience" in self.given and self.patience and self.patience >= possible - 1:
            warnings.warn(f"--patience {self.patience}: no effect on a run of {possible} evaluations", stacklevel=3)
        for flag in {"warmup_steps", "warmup"} & {*self.given}:
            if steps < self.warmup_steps:
                said = f"{flag_name(flag)}: the warm-up takes {self.warmup_steps:,} steps, and the run {steps:,}"
                warnings.warn(f"{said}: the learning rate never reaches --lr", stacklevel=3)

    def progress(self, state: State) -> float:
        """The share of the stretch that is done, by the limit that is nearer."""
        steps, seconds = state.step - self.from_step, state.seconds - self.from_seconds
        by_steps = steps / (self.steps - self.from_step) if self.steps else 0.0
        by_time = seconds / (60 * self.minutes - self.from_seconds) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def out_of_patience(self, state: State) -> bool:
        """Whether the latest evaluations of the stretch were no better than the best one before them."""
        since = sum(evaluation["step"] > max(state.best_step, self.from_step) for evaluation in state.history)
        return self.patience is not None and since >= self.patience


def distinct(flag: str, value: str) -> list[str]:
    """The names between the commas of a flag's value; `InputError` if there is none, or one twice."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{flag} {value!r}: name at least one, each once, separated by commas")
    return names


def seeds_of(value: str) -> list[int]:
    """The seeds of the flag --seeds; `InputError` for anything else than distinct whole numbers between commas."""
    names = distinct("--seeds", value)
    try:
        seeds = [int(name) for name in names]
    except ValueError:
        raise InputError(f"--seeds {value!r}: whole numbers, separated by commas") from None
    for seed in seeds:
        require_number("--seeds", seed, at_least=0, less_than=2**32)
    return seeds
