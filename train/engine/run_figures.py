"""The results that every job reports about its training, and how they are shown."""

from pathlib import Path
from typing import Any

from rich.console import Console

from train.engine.state import State


def run_figures(parameters: int, state: State, *, unit: str = "tokens", read: int | None = None) -> dict[str, Any]:
    """The figures of a run that read so many units of data. Default: as many as it had targets."""
    return {
        "parameters": parameters,
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "steps": state.step,
        "best_step": state.best_step,
        f"{unit}_per_second": (state.tokens if read is None else read) / state.seconds,
    }


def show_run(results: dict[str, Any], folder: Path, console: Console, *, unit: str = "tokens") -> None:
    console.print(
        f"{results['parameters']:,} parameters, {results['seconds']:.0f} s of training, {results['steps']:,} steps, "
        f"best after {results['best_step']:,}, {results[f'{unit}_per_second']:,.0f} {unit}/s\n"
        f"results, model and tokenizer are in {folder}",
        highlight=False,
    )
