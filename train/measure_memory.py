"""Measure how much memory a corpus takes, and how long it takes to be made into tokens.

python -m train.measure_memory                          10, 100 and 1,000 MB of generated text, as characters
python -m train.measure_memory --tokenizer byte-bpe --megabytes 10,100

Each size has a process of its own, which does with its text what `train.pretrain gpt` does before and while it trains:
split it, train a tokenizer, write the token file, map it, take some steps and look at the validation split.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from minitransformer.data.streams import StreamWindows
from minitransformer.data.token_cache import token_file
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import GPT, GPTConfig
from train.pretrain_gpt import TOKENS_TO_WATCH, PretrainSettings, train_tokenizer
from train.pretraining import check_unknown, read_texts
from train.report import wide_console
from train.scoring import stream_loss

CONTEXT = 128


@dataclass(frozen=True)
class MemorySettings:
    """Measure how much memory a corpus takes, and how long it takes to be made into tokens."""

    megabytes: str = "10,100,1000"
    """Sizes of the generated text, with commas."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] = "character"
    steps: int = 20
    """Of a tiny model, on windows from all over the text."""
    out: Path | None = None
    """A .json file for the figures."""
    text: Path | None = None
    """Measure this process alone, on a .txt file, and print its figures as JSON; the others are started so."""

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
        if settings.text is not None:
            print(json.dumps(measured(settings, settings.text)))
            return
        figures = [in_own_process(settings, size) for size in settings.sizes()]
        show(figures, wide_console())
        if settings.out is not None:
            write_json(settings.out, figures)


def in_own_process(settings: MemorySettings, megabytes: int) -> dict[str, Any]:
    """The figures for a text of this size, which is deleted afterwards with its tokens."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        write_text(text, megabytes * 1_000_000)
        command = [sys.executable, "-m", "train.measure_memory", "--text", str(text)]
        command += ["--tokenizer", settings.tokenizer, "--steps", str(settings.steps)]
        environment = os.environ | {"MINITRANSFORMER_CACHE": folder}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if result.returncode != 0:
            lines = result.stderr.splitlines() or [f"exit code {result.returncode}"]
            raise InputError(f"the measurement of {megabytes} MB failed: {lines[-1]}")
        tokens = sum(file.stat().st_size for file in (Path(folder) / "tokens").glob("*"))
        return {"megabytes": megabytes, "token_file_megabytes": tokens / 1e6, **json.loads(result.stdout)}


def write_text(path: Path, num_bytes: int) -> None:
    """Lines of made-up words, the common ones more often (Zipf): ever the same 100,000 lines, drawn at random."""
    chance, letters = random.Random(0), "etaoinshrdlucmfwypvbgkjqxzé"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(20_000)]
    chosen = chance.choices(words, [1 / rank for rank in range(1, len(words) + 1)], k=1_200_000)
    lines = [f"{' '.join(chosen[start : start + 12])}.\n".encode() for start in range(0, len(chosen), 12)]
    left = num_bytes
    with path.open("wb") as file:
        while left > 0:
            block = b"".join(chance.choices(lines, k=50_000))
            left -= len(block)
            # What is too much is cut off, and half a character with it.
            file.write(block if left >= 0 else block[:left].decode(errors="ignore").encode())


def measured(settings: MemorySettings, path: Path) -> dict[str, Any]:
    """Peaks are in megabytes, of all memory: pages of mapped files that are in use count too."""
    figures: dict[str, Any] = {"start_megabytes": peak_megabytes()}
    with timed_as("tokenizer_seconds", figures):
        corpus = read_texts(str(path))
        tokenizer = train_tokenizer(PretrainSettings(tokenizer=settings.tokenizer), corpus["train"])
    with timed_as("tokens_seconds", figures):
        splits = {name: token_file(texts, tokenizer) for name, texts in corpus.items()}
        check_unknown(splits, tokenizer, str(path))
    streams = {name: tokens.ids for name, tokens in splits.items()}
    figures["tokens"] = sum(len(ids) for ids in streams.values())
    figures["prepared_megabytes"] = peak_megabytes()
    model = GPT(GPTConfig(tokenizer.get_vocab_size(), CONTEXT, d_model=32, num_heads=2, num_layers=2, eos_id=3))
    optimizer = torch.optim.AdamW(model.parameters())
    windows = StreamWindows(streams["train"], CONTEXT, batch_size=16, seed=0)
    with timed_as("steps_seconds", figures):
        batches = windows.epoch(0)
        for place in range(min(settings.steps, len(batches))):
            loss = model.loss(windows.batch(batches[place]))["lm"]
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
        every = 1 + len(streams["validation"]) // TOKENS_TO_WATCH
        with torch.inference_mode():
            stream_loss(model, streams["validation"], CONTEXT, every=every)
    figures["peak_megabytes"] = peak_megabytes()
    return figures


def peak_megabytes() -> float:
    """The most memory that this process has had at once."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def timed_as(name: str, figures: dict[str, Any]) -> Iterator[None]:
    """Processor seconds, which other programs on the machine do not change."""
    began = time.process_time()
    yield
    figures[name] = time.process_time() - began


def show(figures: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Peak memory and processor seconds, by size of the text")
    titles = ("text", "tokens", "token file", "peak memory", "of it at start", "tokenizer", "tokens made", "MB/s")
    for title in titles:
        table.add_column(title, justify="right")
    for row in figures:
        table.add_row(
            f"{row['megabytes']:,} MB",
            f"{row['tokens'] / 1e6:,.1f} M",
            f"{row['token_file_megabytes']:,.0f} MB",
            f"{row['peak_megabytes']:,.0f} MB",
            f"{row['start_megabytes']:,.0f} MB",
            f"{row['tokenizer_seconds']:.1f} s",
            f"{row['tokens_seconds']:.1f} s",
            f"{row['megabytes'] / row['tokens_seconds']:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
