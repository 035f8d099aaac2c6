"""Flags in a TOML file: `--config FILE.toml` reads one. Every command writes one that repeats it beside its results.

    job = "translate"
    data = "pairs.tsv"
    max-tokens = 2400

A key is the name of a flag. Flags on the command line win.
"""

import argparse
import dataclasses
import json
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import tyro

from minitransformer.checks import fits, flag_name, type_name
from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.untrusted import require_sane_file, shown
from train.engine.settings import Configurable, Settings

C = TypeVar("C", bound=Configurable)
JOB = "job"
"""The key of the command's name, unless the command has a flag of that name."""
PLACES = {"config", "out", "resume"}
"""Flags that say where a run is, not what it does."""
NO_KEYS = {*PLACES, "run_id", "processes", "stretch", "given"}


def settings_of(settings_class: type[C], job: str, arguments: Sequence[str] | None) -> C:
    """The flags of a command without a run folder, from its command line and its `--config` file."""
    default = settings_class(**flags_of_file(settings_class, job, arguments))
    return tyro.cli(settings_class, args=arguments, default=default, prog=f"python -m train.{job}")


def flags_of_file(settings_class: type[Configurable], job: str, arguments: Sequence[str] | None) -> dict[str, Any]:
    """What the file says that a command line names; nothing without `--config`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", nargs="?", type=Path)
    path = parser.parse_known_args(arguments)[0].config
    return {} if path is None else read_flags(path, settings_class, job)


def flags_of(settings_class: type[Configurable]) -> list[str]:
    """The fields that a file may have."""
    hidden = NO_KEYS | ({JOB} if issubclass(settings_class, Settings) else set())
    return [field.name for field in dataclasses.fields(settings_class) if field.name not in hidden]


def read_flags(path: Path, settings_class: type[Configurable], job: str) -> dict[str, Any]:
    """The values in a file, by the names of the fields of `settings_class`. `InputError` for a file of another job, an
    unknown or doubled key, or a value of another type."""
    require_sane_file(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path} is not TOML: {error}") from error
    fields = flags_of(settings_class)
    if JOB not in fields and (of := found.pop(JOB, job)) != job:
        raise InputError(f"--config {path} is of the job {shown(of)}, not of {job!r}")
    hints = get_type_hints(settings_class)
    values: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name in PLACES:
            raise InputError(f"--config {path}: {flag_name(name)} is for the command line alone")
        if name not in fields:
            near = get_close_matches(name, fields, n=1, cutoff=0.0)[0]
            raise InputError(f"--config {path}: there is no flag {flag_name(key)}; the nearest is {flag_name(near)}")
        if name in values:
            raise InputError(f"--config {path} gives {flag_name(name)} twice")
        if isinstance(value, str) and Path in (hints[name], *get_args(hints[name])):
            value = Path(value)
        if not fits(value, hints[name]):
            wanted = type_name(hints[name]).removesuffix(" or None")
            raise InputError(f"--config {path}: {flag_name(name)} {shown(value)} is not of type {wanted}")
        values[name] = value
    return values


def write_flags(path: Path, settings: Configurable, job: str) -> None:
    """Every flag with its value, defaults included. A flag without a value is left out."""
    values = {JOB: job} | {name: getattr(settings, name) for name in flags_of(type(settings))}
    lines = [f"{flag_name(name)[2:]} = {_toml(value)}\n" for name, value in values.items() if value is not None]
    with atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _toml(value: str | Path | bool | int | float) -> str:
    """JSON writes these as TOML does, but for one character that TOML wants escaped."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007F")
