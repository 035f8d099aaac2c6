"""Measure how much memory a corpus takes, and how long it takes to train on it.

python -m train.measure_memory                          10, 100 and 1,000 MB of generated text, as characters
python -m train.measure_memory --tokenizer byte-bpe --megabytes 10,100
python -m train.measure_memory --job bert               the same for running text and a masked model
python -m train.measure_memory --job translate          the same for pairs, in two line-aligned files
python -m train.measure_memory --job finetune           the same for texts with labels, in a table

Each size is one run of the job itself, in a process of its own: it reads the text, trains a tokenizer, writes the token
file, maps it, takes some steps with a tiny model and scores it on a validation split of 10 kB.
"""

import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from minitransformer.checks import Count, require_ranges
from minitransformer.errors import InputError
from minitransformer.files import require_place_for, write_json
from minitransformer.reporting import reported_to_user
from train.engine.console import table, wide_console
from train.engine.flags_file import settings_of, write_flags
from train.engine.measured_process import run_measured
from train.engine.settings import Configurable
from train.measure_memory.made_up_text import write_corpus

TINY = ["--num-layers", "2", "--d-model", "32", "--num-heads", "2"]
PAIRS = ["--source", "from", "--target", "to", "--tokenizer", "bpe", "--vocab-size", "1000", "--max-tokens", "1024"]
JOBS = {
    "gpt": ["train.pretrain", "gpt", *TINY],
    "bert": ["train.pretrain", "bert", *TINY],
    "translate": [
        "train.translate",
        "--preset",
        "characters",
        "--models",
        "transformer",
        *PAIRS,
        "--evaluations",
        "1",
        "--average",
        "1",
        "--beam",
        "1",
    ],
    "finetune": ["train.finetune", "--init", "scratch", "--no-baselines", *TINY],
}


@dataclass(frozen=True)
class MemorySettings(Configurable):
    """Measure how much memory a corpus takes, and how long it takes to train on it."""

    job: Literal["gpt", "bert", "translate", "finetune"] = "gpt"
    megabytes: str = "10,100,1000"
    """Sizes of the generated text, separated by commas: both sides of pairs together, texts with their labels."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] | None = None
    """For gpt. Default: character. bert and finetune train WordPiece, translate trains 1,000 pieces."""
    steps: Count = 20
    """Steps of a tiny model, on batches from all over the text."""
    out: Path | None = None
    """A .json file for the figures."""

    def sizes(self) -> list[int]:
        require_ranges(self)
        if self.job != "gpt" and self.tokenizer is not None:
            raise InputError(f"--tokenizer {self.tokenizer} is for --job gpt: {self.job} has its own tokenizer")
        sizes = self.megabytes.split(",")
        if not all(size.strip().isdecimal() and 0 < int(size) < 1_000_000 for size in sizes):
            raise InputError(f"--megabytes {self.megabytes}: whole numbers from 1 to 999999, separated by commas")
        return [int(size) for size in sizes]


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        settings = settings_of(MemorySettings, "measure_memory", arguments)
        sizes = settings.sizes()
        if settings.out is not None:
            require_place_for(settings.out)
        figures = [measured(settings, size * 1_000_000) for size in sizes]
        if settings.out is not None:
            write_flags(settings.out.with_suffix(".flags.toml"), settings, "measure_memory")
            write_json(settings.out, figures)
        show(figures, wide_console())


def measured(settings: MemorySettings, num_bytes: int) -> dict[str, Any]:
    """The figures for a text of this size, which is deleted afterwards with its tokens."""
    with tempfile.TemporaryDirectory() as name:
        corpus, cache = Path(name, "corpus"), Path(name, "cache")
        write_corpus(settings.job, corpus, num_bytes)
        command = [sys.executable, "-m", *JOBS[settings.job], "--data", str(corpus), "--out", str(Path(name, "run"))]
        command += ["--steps", str(settings.steps), "--device", "cpu", "--threads", "1"]
        command += [] if settings.tokenizer is None else ["--tokenizer", settings.tokenizer]
        usage = run_measured(command, f"the measurement of {num_bytes / 1e6:,.0f} MB", cache=cache)
        sizes = {
            f"{kind}_file_megabytes": sum(path.stat().st_size for path in (cache / f"{kind}s").rglob("*")) / 1e6
            for kind in ("table", "token")
            if (cache / f"{kind}s").is_dir()
        }
        return {"megabytes": num_bytes / 1e6, **sizes, **asdict(usage)}


def show(figures: list[dict[str, Any]], console: Console) -> None:
    """A row for each figure, a column for each size."""
    names = [name for name in dict.fromkeys(name for row in figures for name in row) if name != "megabytes"]
    rows = [
        [name.replace("_", " "), *(f"{row[name]:,.1f}" if name in row else "" for row in figures)] for name in names
    ]
    columns = ["", *(f"{row['megabytes']:,.0f} MB" for row in figures)]
    console.print(table("Peak memory and processor seconds, by size of the text", columns, rows))


if __name__ == "__main__":
    main()
