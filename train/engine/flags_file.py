"""Flags in a TOML file: `--config FILE.toml` reads one, and every run folder gets one that repeats the run.

    job = "translate"
    data = "pairs.tsv"
    max-tokens = 2400

A key is the name of a flag. Flags on the command line win.
"""

import dataclasses
import json
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from minitransformer.checks import fits, flag_name, type_name
from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.untrusted import require_sane_file, shown
from train.engine.settings import Settings

JOB = "job"
NO_KEYS = {"config", "job", "out", "resume", "run_id", "processes", "stretch", "given"}
"""The fields of `Settings` that say where a run is, not what it does."""


def read_flags(path: Path, settings_class: type[Settings], job: str) -> dict[str, Any]:
    """The values in a file, by the names of the fields of `settings_class`. `InputError` for a file of another job, an
    unknown or doubled key, or a value of another type."""
    require_sane_file(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path} is not TOML: {error}") from error
    if found.get(JOB, job) != job:
        raise InputError(f"--config {path} is of the job {shown(found[JOB])}, not of {job!r}")
    hints = get_type_hints(settings_class)
    fields = [field.name for field in dataclasses.fields(settings_class) if field.name not in NO_KEYS]
    values: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name == JOB:
            continue
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


def write_flags(folder: Path, settings: Settings) -> None:
    """Every flag with its value, defaults included, as `flags.toml`, or `flags-2.toml` for a second stretch. A flag
    without a value is left out."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    lines = [f"{JOB} = {_toml(settings.job)}\n"]
    for name, value in values.items():
        if name not in NO_KEYS and value is not None:
            lines.append(f"{flag_name(name)[2:]} = {_toml(value)}\n")
    path = folder / ("flags.toml" if settings.stretch == 1 else f"flags-{settings.stretch}.toml")
    with atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _toml(value: str | Path | bool | int | float) -> str:
    """JSON writes these as TOML does, but for one character that TOML wants escaped."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007F")
