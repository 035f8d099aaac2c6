"""Measure how much memory a corpus takes, and how long it takes to be made into tokens.

python -m train.measure_memory                          10, 100 and 1,000 MB of generated text, as characters
python -m train.measure_memory --tokenizer byte-bpe --megabytes 10,100
python -m train.measure_memory --job bert               the same for running text and a masked model
python -m train.measure_memory --job translate          the same for pairs, in two line-aligned files
python -m train.measure_memory --job finetune           the same for texts with labels, in a table

Each size has a process of its own, which does with its text what `train.pretrain gpt`, `train.pretrain bert`,
`train.translate` or `train.finetune` does before and while it trains: read or split it, train a tokenizer, write the
token file, map it, take some steps and evaluate on the validation split.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from train.engine.console import table, wide_console
from train.measure_memory.jobs import measured
from train.measure_memory.made_up_text import write_corpus


@dataclass(frozen=True)
class MemorySettings:
    """Measure how much memory a corpus takes, and how long it takes to be made into tokens."""

    job: Literal["gpt", "bert", "translate", "finetune"] = "gpt"
    megabytes: str = "10,100,1000"
    """Sizes of the generated text, separated by commas: both sides of pairs together, texts with their labels."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] | None = None
    """For gpt. Default: character. bert and finetune train WordPiece, translate trains 1,000 pieces."""
    steps: int = 20
    """Steps of a tiny model, on batches from all over the text."""
    out: Path | None = None
    """A .json file for the figures."""
    text: Path | None = None
    """Measure only this process, on a .txt file or a folder of pairs or tables, and print its figures as JSON. The
    command starts its processes this way."""

    def validate(self) -> None:
        if self.job != "gpt" and self.tokenizer is not None:
            raise InputError(f"--tokenizer {self.tokenizer} is for --job gpt: {self.job} has its own tokenizer")

    def sizes(self) -> list[int]:
        sizes = self.megabytes.split(",")
        if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
            raise InputError(f"--megabytes {self.megabytes}: whole numbers of at least 1, separated by commas")
        return [int(size) for size in sizes]


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        settings = tyro.cli(MemorySettings, args=arguments, prog="python -m train.measure_memory")
        settings.validate()
        if settings.text is not None:
            print(json.dumps(measured(settings, settings.text)))
            return
        figures = [in_own_process(settings, size) for size in settings.sizes()]
        if settings.out is not None:
            write_json(settings.out, figures)
        show(figures, wide_console())


def in_own_process(settings: MemorySettings, megabytes: int) -> dict[str, Any]:
    """The figures for a text of this size, which is deleted afterwards with its tokens."""
    with tempfile.TemporaryDirectory() as name:
        cache, corpus = Path(name, "cache"), Path(name, "corpus")
        corpus.mkdir()
        text = write_corpus(settings.job, corpus, megabytes * 1_000_000)
        command = [sys.executable, "-m", "train.measure_memory", "--job", settings.job, "--text", str(text)]
        command += ["--steps", str(settings.steps)]
        command += [] if settings.tokenizer is None else ["--tokenizer", settings.tokenizer]
        environment = os.environ | {"MINITRANSFORMER_CACHE": str(cache)}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if result.returncode != 0:
            lines = result.stderr.splitlines() or [f"exit code {result.returncode}"]
            raise InputError(f"the measurement of {megabytes} MB failed: {lines[-1]}")
        sizes = {
            f"{kind}_file_megabytes": sum(path.stat().st_size for path in (cache / f"{kind}s").rglob("*")) / 1e6
            for kind in ("table", "token")
            if (cache / f"{kind}s").is_dir()
        }
        figures = json.loads(result.stdout)
        figures["megabytes_per_second"] = megabytes / figures["tokens_seconds"]
        return {"megabytes": megabytes, **sizes, **figures}


def show(figures: list[dict[str, Any]], console: Console) -> None:
    """A row for each figure, a column for each size."""
    names = [name for name in dict.fromkeys(name for row in figures for name in row) if name != "megabytes"]
    rows = [
        [name.replace("_", " "), *(f"{row[name]:,.1f}" if name in row else "" for row in figures)] for name in names
    ]
    columns = ["", *(f"{row['megabytes']:,} MB" for row in figures)]
    console.print(table("Peak memory and CPU seconds, by size of the text", columns, rows))


if __name__ == "__main__":
    main()
