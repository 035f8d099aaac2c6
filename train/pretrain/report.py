"""The results that pretraining a causal and a masked model share, and how they are shown."""

from pathlib import Path
from typing import Any

from rich.console import Console

from minitransformer.models import Model
from train.engine.state import State
from train.pretrain.settings import PretrainSettings


def run_figures(settings: PretrainSettings, model: Model, state: State, tokens: int) -> dict[str, Any]:
    """The figures of the training itself, in which `tokens` were read."""
    return {
        "seed": settings.seed,
        "parameters": model.num_parameters(),
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "steps": state.step,
        "best_step": state.best_step,
        "tokens_per_second": tokens / state.seconds,
    }


def show_run(results: dict[str, Any], folder: Path, console: Console) -> None:
    console.print(
        f"{results['parameters']:,} parameters, {results['seconds']:.0f} s of training, {results['steps']:,} steps, "
        f"{results['tokens_per_second']:,.0f} tokens/s\nresults, model and tokenizer are in {folder}",
        highlight=False,
    )
