"""The run folder: where a new run is made, what it holds from the start, and how it is opened to resume."""

import dataclasses
import errno
import os
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import tyro
from rich.console import Console

from minitransformer.checks import fits
from minitransformer.errors import InputError
from minitransformer.files import open_regular, unfinished, write_json
from minitransformer.reporting import naming_flags, reported_to_user
from minitransformer.untrusted import read_json, shown
from train.engine.console import wide_console
from train.engine.fingerprint import DATA_KEY, INIT, data_fingerprint, fingerprint, require_same_data
from train.engine.flags_file import flags_of_file, write_flags
from train.engine.longer import WITH_LENGTH, next_stretch, require_possible_length, set_results_aside
from train.engine.model_card import write_cards
from train.engine.pictures import log_pictures
from train.engine.presets import LENGTH
from train.engine.processes import Processes, joined
from train.engine.results import RESULTS, finished
from train.engine.settings import Settings
from train.engine.signals import resumable

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]

S = TypeVar("S", bound=Settings)
# These may change when a run is resumed: they say where, whether and how safely it runs, not what it computes.
FREE_ON_RESUME = {"out", "resume", "config", "job", "device", "fsdp", "compile", "threads", "samples", "log"}
FREE_ON_RESUME |= {"checkpoint_seconds", "keep_checkpoints", "skip_not_finite"}


def run_job(
    settings_class: type[S], name: str, job: Callable[[S, Path, Console], Any], arguments: list[str] | None
) -> None:
    """What every command does around its `job(settings, folder, console)`: read the command line, choose or resume the
    run folder, report errors, and say how a stopped run is resumed."""
    with reported_to_user(), naming_flags(settings_class), joined():
        settings, folder = open_run(settings_class, name, arguments)
        with resumable(name, folder):
            job(settings, folder, wide_console())
            Processes.current().on_rank_0(lambda: describe_run(folder, settings, name))


def describe_run(folder: Path, settings: Settings, name: str) -> None:
    """What a finished run is shown by: the cards of its models, and pictures for its loggers."""
    write_cards(folder, settings, name)
    if settings.log is not None:
        log_pictures(settings.log, folder)


def open_run(settings_class: type[S], name: str, arguments: list[str] | None = None) -> tuple[S, Path]:
    """Read the command line and choose the run folder, on rank 0 for all processes. `create_run` makes the folder,
    after all input has been read.

    A resumed run keeps its settings: flags left out mean what they meant when it began, and changed ones are refused,
    but for another length, which begins a new stretch.
    A folder that already holds something is refused unless it is resumed. A run that is finished says so, and the
    process exits with code 0.
    """
    with resumable(name, None):  # fingerprinting data that has moved may take long
        return Processes.current().on_rank_0(lambda: read_command(settings_class, name, arguments))


def read_command(settings_class: type[S], name: str, arguments: list[str] | None) -> tuple[S, Path]:
    """`open_run` in one process."""
    prog = f"python -m train.{name}"
    arguments = sys.argv[1:] if arguments is None else arguments
    words = [word.partition("=")[0].strip("-").replace("-", "_") for word in arguments if word.startswith("--")]
    fields = [field.name for field in dataclasses.fields(settings_class)]
    given = tuple(field for field in fields if field in words or f"no_{field}" in words)
    of_file = flags_of_file(settings_class, name, arguments)

    def parsed(default: S) -> S:
        default = dataclasses.replace(default, job=name, **of_file)
        return dataclasses.replace(tyro.cli(settings_class, args=arguments, default=default, prog=prog), given=given)

    settings = parsed(settings_class())
    resume = settings.resume
    folder = settings.out or Path("runs") / f"{name.split('.')[-1].replace(' ', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    if resume == "auto" and settings.out is None:
        raise InputError("--resume auto needs --out, the folder to resume or to start")
    if resume is not None and resume != "auto":
        settings.refuse_idle(f"beside --resume {resume}", "out")
        folder = Path(resume)
    taken = folder.exists() and (not folder.is_dir() or any(path.name[0] != "." for path in folder.iterdir()))
    if resume is None or (resume == "auto" and not taken):
        if preset := settings.chosen_preset():
            settings = parsed(settings_class(**preset.values({*given, *of_file})))
            if said := preset.overruled(settings):
                print(said)
        settings.validate()
        if taken:
            way = f"resume it with --resume {folder}, or " if folder.is_dir() else ""
            raise InputError(f"{folder} exists already: {way}choose another --out")
        _require_possible(folder, settings)
        return dataclasses.replace(settings, processes=Processes.current().world_size, run_id=uuid.uuid4().hex), folder
    saved = _read_settings(folder, settings_class)
    settings = parsed(saved)
    settings = next_stretch(saved, settings, {*given, *of_file})
    is_new = settings.stretch > saved.stretch
    free = FREE_ON_RESUME | ({*LENGTH, *WITH_LENGTH, "stretch"} if is_new else set())
    before, now = _to_json(saved), _to_json(settings)
    changed = [name for name in before if before[name] != now[name] and name not in free]
    if changed == ["data"]:
        saved_data = _saved_data(folder, settings).items()
        if {name: value for name, value in saved_data if not name.startswith(INIT)} == data_fingerprint(settings):
            changed = []  # the same data in another place
    if changed:
        listed = ", ".join(f"{name}={before[name]!r}, now {now[name]!r}" for name in changed)
        beside = " or give more --steps or --minutes, too" if WITH_LENGTH.issuperset(changed) else ""
        raise InputError(f"{folder} was started with other settings: {listed}; leave them out to resume it{beside}")
    settings.validate()
    if settings.threads != saved.threads:
        began = f"the run began with {saved.threads or 'the default'}, and its bits may change"
        warnings.warn(f"--threads {settings.threads}: {began}", stacklevel=2)
    if is_new:
        require_possible_length(folder, settings)
    elif finished(folder, settings.run_id) is not None:
        write_cards(folder, settings, name, missing=True)  # the run may have been killed before it wrote them
        print(f"{folder} is finished: its results are in {folder / RESULTS}, beside models and pictures")
        raise SystemExit(0)
    _require_possible(folder, settings)
    return settings, folder


def _require_possible(folder: Path, settings: Settings) -> None:
    """`InputError`, before any work, if this user cannot make or write to the folder, or the device is not here."""
    settings.torch_device()
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise InputError(f"{folder} cannot be the run folder: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be the run folder: {there} cannot be written to")


def create_run(folder: Path, settings: Settings) -> None:
    """`begin_run`, on rank 0 for all processes."""
    Processes.current().on_rank_0(lambda: begin_run(folder, settings))


def begin_run(folder: Path, settings: Settings) -> None:
    """Make the folder of a new run and write its settings, with the fingerprint of its data. Of a resumed run, check
    that its data are still the same; at a new stretch, set the results aside and write the settings of the stretch.

    The folder is locked until this process ends: `InputError` if another process trains into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock_run(folder)
    _remove_unfinished(folder)
    data = fingerprint(settings)
    path = folder / settings.settings_file
    if not path.exists():
        _write_settings(folder, settings, data)
        return
    saved = _read_settings(folder, type(settings))
    if saved.run_id != settings.run_id:
        raise InputError(f"{folder} was started by another process in the meantime: choose another --out")
    require_same_data(folder, _saved_data(folder, settings), data)
    if settings.stretch > saved.stretch:
        set_results_aside(folder, settings, saved.stretch)
        settings = dataclasses.replace(
            settings, **{name: getattr(saved, name) for name in FREE_ON_RESUME if hasattr(saved, name)}
        )
        _write_settings(folder, settings, data)


def _write_settings(folder: Path, settings: Settings, data: dict[str, str]) -> None:
    """The settings, and as flags too, except for a part of another job."""
    if settings.job:
        name = "flags.toml" if settings.stretch == 1 else f"flags-{settings.stretch}.toml"
        write_flags(folder / name, settings, settings.job)
    write_json(folder / settings.settings_file, {**_to_json(settings), DATA_KEY: data})


def lock_run(folder: Path) -> None:
    """Lock the folder until this process ends. The operating system releases the lock however the process ends; the
    file `.lock` means nothing by itself. Raises `InputError` if another process holds the lock."""
    if fcntl is None:
        return
    descriptor = open_regular(folder / ".lock", os.O_RDWR | os.O_CREAT)
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


def _remove_unfinished(folder: Path) -> None:
    """Remove temporary files of pictures, weights and results that a killed process left in the run folder and in the
    folders of its models."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    for place in (folder, *folders):
        for path in unfinished(place, r"[\w.-]+"):
            if path.is_file():
                path.unlink()


def _read_settings(folder: Path, settings_class: type[S]) -> S:
    path = folder / settings_class.settings_file
    if not path.exists():
        reason = f"has no {path.name}" if folder.is_dir() else "is not a folder"
        raise InputError(f"{folder} is not a run to resume: it {reason}")
    try:
        values = read_json(path)
        values.pop(DATA_KEY, None)
        values["given"] = ()
        fields = {field.name for field in dataclasses.fields(settings_class)}
        if set(values) != fields:
            raise InputError(f"it has {', '.join(sorted(values))}")
        hints = get_type_hints(settings_class)
        paths = [name for name in fields if Path in (hints[name], *get_args(hints[name]))]
        values |= {name: Path(values[name]) for name in paths if isinstance(values[name], str)}
        if wrong := [name for name, value in values.items() if not fits(value, hints[name])]:
            raise InputError(f"{', '.join(f'{name}={shown(values[name])}' for name in wrong)}")
        return settings_class(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the settings of such a run: {error}") from error


def _saved_data(folder: Path, settings: Settings) -> dict[str, str]:
    found = read_json(folder / settings.settings_file).get(DATA_KEY)
    return found if isinstance(found, dict) else {}


def _to_json(settings: Settings) -> dict[str, Any]:
    """All but the flags of this command line."""
    values = {name: value for name, value in dataclasses.asdict(settings).items() if name != "given"}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
