"""The pictures of a finished run for its loggers: what the job drew, or where the model looks in its last sample."""

import json
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from minitransformer.errors import InputError
from minitransformer.pipelines.loading import load_pipeline
from minitransformer.plots import attention_heads
from minitransformer.untrusted import read_json
from train.engine.loggers import Loggers
from train.engine.results import RESULTS
from train.engine.samples import SAMPLES

LETTERS = 40
"""Of what a GPT wrote, whose attention is drawn."""


def log_pictures(names: str, folder: Path) -> None:
    """Hand the pictures in the run folder to the loggers that `--log` names; draw one for a model with samples."""
    loggers = Loggers.of(names, folder)
    if (folder / SAMPLES).exists():
        loggers.safely("the attention picture", lambda: draw_attention(folder))
    steps = [read_json(path).get("steps", 0) for part in ("", "*/") for path in folder.glob(part + RESULTS)]
    for path in sorted(folder.glob("*.png")):
        loggers.log(max(steps, default=0), **{path.stem: path})
    loggers.send()


def draw_attention(folder: Path) -> None:
    """Every head of the last layer, over a text of the last samples; nothing for a model without attention."""
    *_, line = (folder / SAMPLES).read_text(encoding="utf-8").splitlines()
    sample = json.loads(line)["samples"][0]
    text = sample["text"] if "text" in sample else sample["sample"][:LETTERS]
    with warnings.catch_warnings(), suppress(InputError):
        warnings.simplefilter("ignore")  # of a text that fills the context
        grid = load_pipeline(folder).view(text).grids[-1]
        weights = torch.from_numpy(grid.shares[-1])
        attention_heads(weights, grid.keys, grid.queries, title=folder.name, path=folder / "attention.png")
