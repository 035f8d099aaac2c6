"""Measure how much memory a corpus takes, and how long it takes to be made into tokens.

python -m train.measure_memory                          10, 100 and 1,000 MB of generated text, as characters
python -m train.measure_memory --tokenizer byte-bpe --megabytes 10,100
python -m train.measure_memory --job bert               the same of running text for a masked model
python -m train.measure_memory --job translate          the same of pairs, in two line-aligned files
python -m train.measure_memory --job finetune           the same of texts with labels, in a table

Each size has a process of its own, which does with its text what `train.pretrain gpt`, `train.pretrain bert`,
`train.translate` or `train.finetune` does before and while it trains: split or read it, train a tokenizer, write the
token file, map it, take some steps and look at the validation split.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from train.engine.console import wide_console
from train.measure_memory.jobs import measured_bert, measured_finetune, measured_gpt, measured_translate
from train.measure_memory.made_up_text import write_labelled, write_pairs, write_text

JOBS: dict[str, Callable[[Any, Path], dict[str, Any]]] = {
    "gpt": measured_gpt,
    "bert": measured_bert,
    "translate": measured_translate,
    "finetune": measured_finetune,
}
WRITERS = {
    "gpt": ("text.txt", write_text),
    "bert": ("text.txt", write_text),
    "translate": ("pairs", write_pairs),
    "finetune": ("labelled", write_labelled),
}
"""What writes the text of each, and what the file or folder is called."""


@dataclass(frozen=True)
class MemorySettings:
    """Measure how much memory a corpus takes, and how long it takes to be made into tokens."""

    job: Literal["gpt", "bert", "translate", "finetune"] = "gpt"
    megabytes: str = "10,100,1000"
    """Sizes of the generated text, with commas; of pairs both sides together, of labelled texts with their labels."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] | None = None
    """Of gpt; default: character. bert and finetune have WordPiece, pairs have 1,000 pieces."""
    steps: int = 20
    """Of a tiny model, on windows from all over the text."""
    out: Path | None = None
    """A .json file for the figures."""
    text: Path | None = None
    """Measure this process alone, on a .txt file or a folder of pairs or tables, and print its figures as JSON; the
    others are started so."""

    def validate(self) -> None:
        if self.job != "gpt" and self.tokenizer is not None:
            raise InputError(f"--tokenizer {self.tokenizer} is for --job gpt: {self.job} has one of its own")

    def sizes(self) -> list[int]:
        try:
            sizes = [int(part) for part in self.megabytes.split(",")]
        except ValueError:
            sizes = []
        if not sizes or min(sizes) < 1:
            raise InputError(f"--megabytes {self.megabytes}: whole numbers from 1 on, with commas between them")
        return sizes


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        settings = tyro.cli(MemorySettings, args=arguments, prog="python -m train.measure_memory")
        settings.validate()
        if settings.text is not None:
            print(json.dumps(JOBS[settings.job](settings, settings.text)))
            return
        figures = [in_own_process(settings, size) for size in settings.sizes()]
        if settings.out is not None:
            write_json(settings.out, figures)
        show(figures, wide_console())


def in_own_process(settings: MemorySettings, megabytes: int) -> dict[str, Any]:
    """The figures for a text of this size, which is deleted afterwards with its tokens."""
    with tempfile.TemporaryDirectory() as folder:
        name, write = WRITERS[settings.job]
        text = Path(folder) / name
        write(text, megabytes * 1_000_000)
        command = [sys.executable, "-m", "train.measure_memory", "--job", settings.job, "--text", str(text)]
        command += ["--steps", str(settings.steps)]
        command += [] if settings.tokenizer is None else ["--tokenizer", settings.tokenizer]
        environment = os.environ | {"MINITRANSFORMER_CACHE": folder}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if result.returncode != 0:
            lines = result.stderr.splitlines() or [f"exit code {result.returncode}"]
            raise InputError(f"the measurement of {megabytes} MB failed: {lines[-1]}")
        sizes = {
            f"{kind}_file_megabytes": sum(file.stat().st_size for file in Path(folder, f"{kind}s").iterdir()) / 1e6
            for kind in ("table", "token")
            if Path(folder, f"{kind}s").is_dir()
        }
        return {"megabytes": megabytes, **sizes, **json.loads(result.stdout)}


def show(figures: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Peak memory and processor seconds, by size of the text")
    columns = {
        "text": ("megabytes", "{:,} MB", 1.0),
        "pairs": ("pairs", "{:,.1f} M", 1e-6),
        "texts": ("texts", "{:,.1f} M", 1e-6),
        "tokens": ("tokens", "{:,.1f} M", 1e-6),
        "table file": ("table_file_megabytes", "{:,.0f} MB", 1.0),
        "token file": ("token_file_megabytes", "{:,.0f} MB", 1.0),
        "peak memory": ("peak_megabytes", "{:,.0f} MB", 1.0),
        "of it at start": ("start_megabytes", "{:,.0f} MB", 1.0),
        "read": ("read_seconds", "{:.1f} s", 1.0),
        "tokenizer": ("tokenizer_seconds", "{:.1f} s", 1.0),
        "tokens made": ("tokens_seconds", "{:.1f} s", 1.0),
    }
    shown = {title: column for title, column in columns.items() if any(column[0] in row for row in figures)}
    for title in (*shown, "MB/s"):
        table.add_column(title, justify="right")
    for row in figures:
        # A small text has no file.
        cells = [
            form.format(row[key] if unit == 1 else row[key] * unit) if key in row else ""
            for key, form, unit in shown.values()
        ]
        table.add_row(*cells, f"{row['megabytes'] / row['tokens_seconds']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
