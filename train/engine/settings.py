"""What all training scripts are told in the same words, and the folder that a run lives in."""

import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

import torch
import tyro

from minitransformer.errors import InputError
from minitransformer.files import unfinished, write_json
from minitransformer.hardware import multiplies_bfloat16
from minitransformer.untrusted import read_json, shown
from train.engine.fingerprint import INIT, data_fingerprint, fingerprint, require_same_data
from train.engine.processes import Processes, local_world_size
from train.engine.run_lock import lock_run
from train.engine.signals import resumable
from train.engine.typed_json import fits

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Settings:
    """Flags of every script. A run's length is `minutes` of training, evaluation not counted, or `steps`."""

    settings_file: ClassVar[str] = "config.json"

    minutes: float | None = None
    """Training time. With --steps too, whichever comes first."""
    steps: int | None = None
    """Optimizer steps. A run measured in steps resumes bit for bit."""
    seed: int = 0
    """Of the weights, the order of the data and dropout."""
    device: Device = "auto"
    threads: int | None = None
    """CPU threads. Default: 1 for models under 500,000 parameters, which run no faster on more, else all cores."""
    precision: Precision = "auto"
    """auto is bf16 where the hardware multiplies it faster than fp32, else fp32."""
    out: Path | None = None
    """The run folder. Default: runs/NAME-DATE-TIME."""
    resume: str | None = None
    """A run folder to go on with, or "auto": go on with --out if it is there, else start it."""
    checkpoint_seconds: float | None = None
    """Time between checkpoints; 0 for one after every step. Default: a minute, or as much more as keeps their share of
    the time at 1%."""
    keep_checkpoints: int = 2
    """How many of the latest to keep, beside the best."""
    fsdp: bool = False
    """Of the processes that torchrun started, each keeps a part of the model, not all of it: for large ones."""
    compile: bool = False
    """Make kernels of the blocks with torch.compile, which needs a C++ compiler and a while at the start."""
    processes: tyro.conf.Suppress[int] = 1
    """How many began the run. A step keeps their number of batches, however many go on with it."""
    skip_not_finite: int = 0
    """How many steps to leave out because their loss or gradient is not finite, before the run stops."""

    def validate(self) -> None:
        """Raises `InputError`. Not done on construction, where the command-line parser would wrap the message."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"--{field.name.replace('_', '-')} {value} must be a finite number")
        for name in ("minutes", "steps", "threads", "keep_checkpoints"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be more than 0")
        for name in ("checkpoint_seconds", "skip_not_finite"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed} must be at least 0 and less than {2**32}")

    def data_names(self) -> list[str]:
        """The corpora that `data` names, of a script that has such a flag: one, unless it says otherwise."""
        return [self.data] if hasattr(self, "data") else []

    def torch_device(self) -> torch.device:
        if self.device != "auto":
            available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
            if not available[self.device]:
                raise InputError(f"--device {self.device}: torch sees no such device here; try --device auto")
            return torch.device(self.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    def set_threads(self, num_parameters: int) -> None:
        """Where another program holds a core, several threads wait for each other at every operation: a small
        model's steps were seen to take thirty times as long."""
        all_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        cores = max(1, all_cores // local_world_size())
        torch.set_num_threads(self.threads or (1 if num_parameters < 500_000 else cores))

    def safeguards(self) -> dict[str, Any]:
        """What `LoopOptions` is told of checkpoints, faults and processes."""
        names = ("checkpoint_seconds", "keep_checkpoints", "skip_not_finite", "fsdp", "compile")
        return {name: getattr(self, name) for name in names}

    def autocast_dtype(self) -> torch.dtype | None:
        """bfloat16 for mixed precision, None for float32."""
        fast = self.precision == "auto" and multiplies_bfloat16(self.torch_device())
        return torch.bfloat16 if fast or self.precision == "bf16" else None


S = TypeVar("S", bound=Settings)
# These may change between a run and its resumption: they say where, whether and how safely, not what.
FREE_ON_RESUME = {"out", "resume", "device", "fsdp", "compile"}
FREE_ON_RESUME |= {"checkpoint_seconds", "keep_checkpoints", "skip_not_finite"}
DATA_KEY = "data_sha256"
"""In the file of the settings: what they name in `data` and `init` held when the run began."""


def open_run(settings_class: type[S], name: str, arguments: list[str] | None = None) -> tuple[S, Path]:
    """`read_command`, once for all processes: they train into one folder."""
    with resumable(name, None):  # data that lies elsewhere now is read from end to end
        return Processes.current().from_main(lambda: read_command(settings_class, name, arguments))


def read_command(settings_class: type[S], name: str, arguments: list[str] | None) -> tuple[S, Path]:
    """Read the command line and choose the run folder, which `create_run` makes once all input has been read.

    A resumed run keeps its settings: flags left out mean what they meant when it began, and one that says
    otherwise is refused. So is a folder that already holds something, unless it is resumed.
    """
    settings = tyro.cli(settings_class, args=arguments, prog=f"python -m train.{name}")
    settings.validate()
    resume = settings.resume
    folder = settings.out or Path("runs") / f"{name.replace(' ', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    if resume == "auto" and settings.out is None:
        raise InputError("--resume auto needs --out, the folder to go on with or to start")
    if resume is not None and resume != "auto":
        folder = Path(resume)
    taken = folder.exists() and (not folder.is_dir() or any(path.name[0] != "." for path in folder.iterdir()))
    if resume is not None and (resume != "auto" or taken):
        saved = _read_settings(folder, settings_class)
        settings = tyro.cli(settings_class, args=arguments, default=saved, prog=f"python -m train.{name}")
        changed = _differences(saved, settings)
        if set(changed) == {"data"}:
            saved_data = _saved_data(folder, settings).items()
            if {name: value for name, value in saved_data if not name.startswith(INIT)} == data_fingerprint(settings):
                changed = {}  # it lies elsewhere
        if changed:
            raise InputError(f"{folder} was started with other settings: {_told(changed)}; leave them out to go on")
        settings.validate()
        return settings, folder
    if taken:
        raise InputError(f"{folder} exists already: --resume {folder} goes on with a run, --out starts one elsewhere")
    return dataclasses.replace(settings, processes=Processes.current().world_size), folder


def create_run(folder: Path, settings: Settings) -> None:
    """`begin_run`, in one process for all."""
    Processes.current().from_main(lambda: begin_run(folder, settings))


def begin_run(folder: Path, settings: Settings) -> None:
    """Make the folder of a new run and write its settings, with the checksums of its data; of a resumed one, which has
    them already, see that they still hold.

    Until this process ends no other may train into the folder: `InputError` where one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock_run(folder)
    _remove_unfinished(folder)
    data = fingerprint(settings)
    path = folder / settings.settings_file
    if not path.exists():
        write_json(path, {**_to_json(settings), DATA_KEY: data})
        return
    # Of a run that another process began since `open_run`, they may be others.
    changed = _differences(_read_settings(folder, type(settings)), settings)
    changed.pop("data", None)
    if changed:
        raise InputError(f"{folder} was started with other settings: {_told(changed)}; take another --out")
    require_same_data(folder, _saved_data(folder, settings), data)


def _remove_unfinished(folder: Path) -> None:
    """What a killed process left of pictures, weights and results, in the folder of the run and those of its models."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    for place in (folder, *folders):
        for path in unfinished(place, r"[\w.-]+"):
            if path.is_file():
                path.unlink()


def _read_settings(folder: Path, settings_class: type[S]) -> S:
    path = folder / settings_class.settings_file
    if not path.is_file():
        reason = f"has no {path.name}" if folder.is_dir() else "is not a folder"
        raise InputError(f"{folder} is not a run to resume: it {reason}")
    try:
        values = read_json(path)
        values.pop(DATA_KEY, None)
        fields = {field.name for field in dataclasses.fields(settings_class)}
        if set(values) != fields:
            raise InputError(f"it has {', '.join(sorted(values))}")
        paths = {name: Path(values[name]) for name in ("out", "init", "pretrained") if values.get(name) is not None}
        hints = get_type_hints(settings_class)
        if wrong := [name for name, value in (values | paths).items() if not fits(value, hints[name])]:
            raise InputError(f"{', '.join(f'{name}={shown(values[name])}' for name in wrong)}")
        return settings_class(**{**values, **paths})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the settings of such a run: {error}") from error


def _saved_data(folder: Path, settings: Settings) -> dict[str, str]:
    found = read_json(folder / settings.settings_file).get(DATA_KEY)
    return found if isinstance(found, dict) else {}


def _differences(saved: Settings, given: Settings) -> dict[str, tuple[Any, Any]]:
    """The values before and now of what is not free to change."""
    before, now = _to_json(saved), _to_json(given)
    return {
        name: (before[name], now[name]) for name in before if before[name] != now[name] and name not in FREE_ON_RESUME
    }


def _told(changed: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}={before!r}, now {now!r}" for name, (before, now) in changed.items())


def _to_json(settings: Settings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
