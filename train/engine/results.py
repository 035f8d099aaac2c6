"""The results of a run: its figures, how they are shown, and `results.json`, which says that the run is finished."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from minitransformer.errors import InputError
from minitransformer.files import sha256, write_json
from minitransformer.untrusted import read_json
from train.engine.metrics_file import METRICS
from train.engine.state import State

RESULTS = "results.json"


def run_figures(parameters: int, state: State, *, unit: str = "tokens", read: int | None = None) -> dict[str, Any]:
    """The figures of a run that read so many units of data. Default: as many as it had targets."""
    return {
        "parameters": parameters,
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "steps": state.step,
        "skipped_steps": state.skipped,
        "best_step": state.best_step,
        f"{unit}_per_second": (state.tokens if read is None else read) / state.seconds,
    }


def show_run(results: Mapping[str, Any], folder: Path, console: Console, *, unit: str = "tokens") -> None:
    console.print(
        f"{results['parameters']:,} parameters, {results['seconds']:.0f} s of training, {results['steps']:,} steps, "
        f"best after {results['best_step']:,}, {results[f'{unit}_per_second']:,.0f} {unit}/s\n"
        f"results, model and tokenizer are in {folder}"
    )


def finish(folder: Path, results: Mapping[str, Any], run_id: str) -> None:
    """Write `results.json`, with the run's name and the checksums of its metrics, of the models in the folder, and of
    all this: it makes the run a finished one."""
    models = [path.parent for pattern in ("", "*/") for path in folder.glob(f"{pattern}model.safetensors")]
    files = [model / name for model in models for name in ("model.safetensors", "config.json")]
    files += [path for model in models for path in model.glob("*tokenizer.json")]
    checksums = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files)}
    metrics = sha256(folder / METRICS) if (folder / METRICS).exists() else None
    own = {"run_id": run_id, "metrics_sha256": metrics, "files": checksums}
    values = json.loads(json.dumps({**results, **own}))  # as they are read again
    write_json(folder / RESULTS, {**values, "sha256": digest(values)})


def digest(values: Any) -> str:
    """The checksum of a value as JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def set_aside(folder: Path, stretch: int) -> None:
    """Keep the results of a finished stretch, as `results-1.json`; the run is not finished any more."""
    if (path := folder / RESULTS).is_file():
        path.replace(_aside(folder, stretch))


def end_of_stretch(folder: Path, stretch: int) -> tuple[int, float] | None:
    """The steps and seconds after which a stretch was finished; None if it was not, or its results have changed."""
    if not (path := _aside(folder, stretch)).exists():
        return None
    results = read_json(path)
    if not isinstance(results, dict) or results.pop("sha256", None) != digest(results) or "steps" not in results:
        return None
    return results["steps"], results["seconds"]


def _aside(folder: Path, stretch: int) -> Path:
    return (folder / RESULTS).with_stem(f"results-{stretch}")


def part_id(run_id: str, folder: Path) -> str:
    """The `run_id` of a run in the folder of a run: one model of a comparison, say."""
    return f"{run_id}/{folder.name}"


def finished(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The results of a finished run; None if it is not finished. `InputError` if they are another run's or have
    changed, or if a model is gone or has changed; a warning if metrics of it, or of a run in it, are gone or have
    changed."""
    path = folder / RESULTS
    if not path.exists():
        return None
    results = read_json(path)
    if not isinstance(results, dict) or results.pop("sha256", None) != digest(results):
        raise InputError(f"{path} is not what a finished run writes: delete it, and resume the run to write it again")
    owner, metrics, files = (results.pop(name) for name in ("run_id", "metrics_sha256", "files"))
    if owner != run_id:
        raise InputError(f"{path} is of another run: put back what was moved")
    for name, checksum in files.items():
        there = (folder / name).is_file()
        if not there or sha256(folder / name) != checksum:
            raise InputError(
                f"{folder} is finished, but its {name} {'has changed' if there else 'is gone'}: put it back, or delete "
                f"every {RESULTS} in {folder} and resume it, which saves the model again from its checkpoints"
            )
    if metrics is not None and (not (folder / METRICS).is_file() or sha256(folder / METRICS) != metrics):
        warnings.warn(f"{folder / METRICS} was changed since the run wrote it, or is gone", stacklevel=2)
    for part in sorted(folder.glob(f"*/{RESULTS}")):
        finished(part.parent, part_id(run_id, part.parent))
    return results
