"""Measure how much memory a corpus takes, and how long it takes to be made into tokens.

python -m train.measure_memory                          10, 100 and 1,000 MB of generated text, as characters
python -m train.measure_memory --tokenizer byte-bpe --megabytes 10,100
python -m train.measure_memory --job translate          the same of pairs, in two line-aligned files

Each size has a process of its own, which does with its text what `train.pretrain gpt` or `train.translate` does before
and while it trains: split or read it, train a tokenizer, write the token file, map it, take some steps and look at the
validation split.
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

from minitransformer.data import load
from minitransformer.data.streams import StreamWindows
from minitransformer.data.token_cache import token_file
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import GPT, GPTConfig, Transformer, TransformerConfig
from train.feed import Feed
from train.loop import TrainingData
from train.pretrain_gpt import TOKENS_TO_WATCH, PretrainSettings, train_tokenizer
from train.pretraining import check_unknown, read_texts
from train.report import wide_console
from train.scoring import stream_loss
from train.translation_data import TranslationData, are_sentences, tokenizers_for

CONTEXT = 128


@dataclass(frozen=True)
class MemorySettings:
    """Measure how much memory a corpus takes, and how long it takes to be made into tokens."""

    job: Literal["gpt", "translate"] = "gpt"
    megabytes: str = "10,100,1000"
    """Sizes of the generated text, with commas; of pairs both sides together."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] | None = None
    """Default: character; of pairs always bpe, of 1,000 pieces."""
    steps: int = 20
    """Of a tiny model, on windows from all over the text."""
    out: Path | None = None
    """A .json file for the figures."""
    text: Path | None = None
    """Measure this process alone, on a .txt file or a folder of pairs, and print its figures as JSON; the others are
    started so."""

    def validate(self) -> None:
        if self.job == "translate" and self.tokenizer not in (None, "bpe"):
            raise InputError(f"--tokenizer {self.tokenizer} is for --job gpt: pairs are measured with bpe")

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
            measured = measured_gpt if settings.job == "gpt" else measured_translate
            print(json.dumps(measured(settings, settings.text)))
            return
        figures = [in_own_process(settings, size) for size in settings.sizes()]
        show(figures, wide_console())
        if settings.out is not None:
            write_json(settings.out, figures)


def in_own_process(settings: MemorySettings, megabytes: int) -> dict[str, Any]:
    """The figures for a text of this size, which is deleted afterwards with its tokens."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / ("text.txt" if settings.job == "gpt" else "pairs")
        (write_text if settings.job == "gpt" else write_pairs)(text, megabytes * 1_000_000)
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


def made_up_lines(chance: random.Random) -> list[bytes]:
    """100,000 lines of made-up words, the common ones more often (Zipf)."""
    letters = "etaoinshrdlucmfwypvbgkjqxzé"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(20_000)]
    chosen = chance.choices(words, [1 / rank for rank in range(1, len(words) + 1)], k=1_200_000)
    return [f"{' '.join(chosen[start : start + 12])}.\n".encode() for start in range(0, len(chosen), 12)]


def write_text(path: Path, num_bytes: int) -> None:
    """Ever the same lines, drawn at random."""
    chance = random.Random(0)
    lines, left = made_up_lines(chance), num_bytes
    with path.open("wb") as file:
        while left > 0:
            block = b"".join(chance.choices(lines, k=50_000))
            left -= len(block)
            # What is too much is cut off, and half a character with it.
            file.write(block if left >= 0 else block[:left].decode(errors="ignore").encode())


def write_pairs(folder: Path, num_bytes: int) -> None:
    """The same as training text: every line has one that always goes with it. Some are validation."""
    folder.mkdir()
    chance = random.Random(0)
    lines = made_up_lines(chance)
    left, longest = num_bytes, 2 * max(map(len, lines))
    with (folder / "train.from").open("wb") as source, (folder / "train.to").open("wb") as target:
        while left > longest:
            chosen = chance.choices(range(len(lines)), k=min(50_000, left // longest))
            left -= source.write(b"".join(lines[number] for number in chosen))
            left -= target.write(b"".join(lines[-1 - number] for number in chosen))
    (folder / "val.from").write_bytes(b"".join(lines[:500]))
    (folder / "val.to").write_bytes(b"".join(lines[:-501:-1]))


def measured_gpt(settings: MemorySettings, path: Path) -> dict[str, Any]:
    """Peaks are in megabytes, of all memory: pages of mapped files that are in use count too."""
    figures: dict[str, Any] = {"start_megabytes": peak_megabytes()}
    with timed_as("tokenizer_seconds", figures):
        corpus = read_texts(str(path))
        tokenizer = train_tokenizer(PretrainSettings(tokenizer=settings.tokenizer or "character"), corpus["train"])
    with timed_as("tokens_seconds", figures):
        splits = {name: token_file(texts, tokenizer) for name, texts in corpus.items()}
        check_unknown(splits, tokenizer, str(path))
    streams = {name: tokens.ids for name, tokens in splits.items()}
    figures["tokens"] = sum(len(ids) for ids in streams.values())
    figures["prepared_megabytes"] = peak_megabytes()
    model = GPT(GPTConfig(tokenizer.get_vocab_size(), CONTEXT, d_model=32, num_heads=2, num_layers=2, eos_id=3))
    windows = StreamWindows(streams["train"], CONTEXT, batch_size=16, seed=0)
    with timed_as("steps_seconds", figures):
        train_some(model, windows, settings.steps)
        every = 1 + len(streams["validation"]) // TOKENS_TO_WATCH
        with torch.inference_mode():
            stream_loss(model, streams["validation"], CONTEXT, every=every)
    figures["peak_megabytes"] = peak_megabytes()
    return figures


def measured_translate(settings: MemorySettings, folder: Path) -> dict[str, Any]:
    """The same of pairs."""
    figures: dict[str, Any] = {"start_megabytes": peak_megabytes()}
    with timed_as("read_seconds", figures):
        corpus = load(folder, source="from", target="to")
        are_sentences(corpus)
    figures["pairs"] = len(corpus["train"])
    with timed_as("tokenizer_seconds", figures):
        tokenizers = tokenizers_for(corpus["train"], "bpe", vocab_size=1000, joint=True)
    with timed_as("tokens_seconds", figures):
        data = TranslationData.of(corpus, *tokenizers, limit=CONTEXT)
    figures["tokens"] = int(data.pairs["train"].lengths.sum())
    figures["prepared_megabytes"] = peak_megabytes()
    sizes: dict[str, Any] = dict(d_model=32, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1)
    size = tokenizers[0].get_vocab_size()
    model = Transformer(TransformerConfig(size, size, **sizes))
    feed = Feed(data.pairs["train"], max_tokens=4096, pool=200, seed=0)
    with timed_as("steps_seconds", figures):
        train_some(model, feed, settings.steps)
        data.loss(model, "validation")
    figures["peak_megabytes"] = peak_megabytes()
    return figures


def train_some(model: GPT | Transformer, feed: TrainingData, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters())
    batches = feed.epoch(0)
    for place in range(min(steps, len(batches))):
        loss = model.loss(feed.batch(batches[place]))["lm"]
        (loss.total / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()


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
    columns = {
        "text": ("megabytes", "{:,} MB", 1.0),
        "pairs": ("pairs", "{:,.1f} M", 1e-6),
        "tokens": ("tokens", "{:,.1f} M", 1e-6),
        "table file": ("table_file_megabytes", "{:,.0f} MB", 1.0),
        "token file": ("token_file_megabytes", "{:,.0f} MB", 1.0),
        "peak memory": ("peak_megabytes", "{:,.0f} MB", 1.0),
        "of it at start": ("start_megabytes", "{:,.0f} MB", 1.0),
        "read": ("read_seconds", "{:.1f} s", 1.0),
        "tokenizer": ("tokenizer_seconds", "{:.1f} s", 1.0),
        "tokens made": ("tokens_seconds", "{:.1f} s", 1.0),
    }
    shown = {title: column for title, column in columns.items() if column[0] in figures[0]}
    for title in (*shown, "MB/s"):
        table.add_column(title, justify="right")
    for row in figures:
        cells = [form.format(row[key] if unit == 1 else row[key] * unit) for key, form, unit in shown.values()]
        table.add_row(*cells, f"{row['megabytes'] / row['tokens_seconds']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
