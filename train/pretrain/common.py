"""What pretraining a causal and a masked model have in common: flags, the text, how the loop is told."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import datasets
import torch
from tokenizers import Tokenizer

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.data.files import text_files
from minitransformer.data.running_text import (
    Texts,
    count_characters,
    last_tenth_of_file,
    part_of_file,
    pieces,
)
from minitransformer.data.token_cache import Tokens
from minitransformer.errors import InputError
from minitransformer.models import Model
from minitransformer.optim import adamw, muon
from minitransformer.tokenization import UNK
from train.engine.loop import LoopOptions
from train.engine.settings import Settings
from train.engine.tokenizer_text import TOKENIZER_BYTES

MODERN: dict[str, Any] = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "norm_eps": 1e-6,
    "activation": "relu_squared",
    "bias": False,
    "qk_norm": True,
}
"""The fields of a model's configuration that `--architecture modern` stands for."""


@dataclass(frozen=True)
class PretrainingSettings(Settings):
    """Flags of both."""

    settings_file: ClassVar[str] = "settings.json"  # config.json is the model's

    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon for the matrices inside blocks, AdamW for the rest."""
    lr: float | None = None
    """Peak learning rate. Default: 0.005 with muon, 0.001 with adamw."""
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    warmup_steps: int = 20
    momentum: float = 0.95
    """Of muon. Runs of a few hundred steps learn faster with 0.9."""
    weight_decay: float = 0.01
    accumulate: int = 1
    """Batches in a step, of each process."""

    def require_positive(self, *names: str) -> None:
        for name in (*names, "lr", "accumulate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be more than 0")
        for name in ("warmup_steps", "weight_decay"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0")
        if not 0 <= self.momentum < 1:
            raise InputError(f"--momentum {self.momentum} must be at least 0 and less than 1")

    def refuse_beside_init(self, init: Path, *names: str) -> None:
        """Flags for what comes with the weights to go on from."""
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if given:
            raise InputError(f"{', '.join(given)}: sizes come from --init {init}; leave them out")

    @property
    def peak_lr(self) -> float:
        return self.lr or (5e-3 if self.optimizer == "muon" else 1e-3)

    def loop_options(self, *, default_minutes: float, unit: str = "tokens") -> LoopOptions:
        """`default_minutes` where no length is given."""
        unlimited = self.minutes is None and self.steps is None
        return LoopOptions(
            lr=self.peak_lr,
            steps=self.steps,
            minutes=default_minutes if unlimited else self.minutes,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            accumulate=self.accumulate * self.processes,
            evaluations=10,
            unit=unit,
            autocast=self.autocast_dtype(),
            **self.safeguards(),
        )

    def new_optimizer(self, model: Model) -> torch.optim.Optimizer:
        options: dict[str, Any] = {"lr": self.peak_lr, "weight_decay": self.weight_decay}
        if self.optimizer == "adamw":
            return adamw(model, **options)
        return muon(model, momentum=self.momentum, **options)


def read_corpus(name: str) -> Mapping[str, datasets.Dataset]:
    """The splits of a corpus that has a column `text`."""
    corpus = load(name)
    if "text" not in corpus["train"].column_names:
        raise InputError(f"--data {name} holds no running text: it has {corpus['train'].column_names}")
    return corpus


def read_texts(name: str) -> Mapping[str, Texts]:
    """The splits of a corpus as running text. A .txt file, or a folder of such, is read in blocks as often as needed,
    and is never in memory whole."""
    path = Path(name).expanduser()
    if path.suffix.lower() == ".txt" and path.is_file():
        return last_tenth_of_file(path)
    files = text_files(path)
    if files:
        return {split: part_of_file(file, 0, count_characters(file)) for split, file in files.items()}
    return {split: _texts_of(table) for split, table in read_corpus(name).items()}


def _texts_of(table: datasets.Dataset) -> Texts:
    return Texts(lambda: ((text,) for text in texts(table, "text")))


def for_training_tokenizers(running: Texts) -> Iterator[str]:
    """The first `TOKENIZER_BYTES` of running text, in pieces that end with a word; it says so where that is not all."""
    left = TOKENIZER_BYTES
    warn_of_text_left_out(running.content.num_bytes)
    for text in running:
        for piece in pieces(text, 1 << 16):
            if left <= 0:
                return
            left -= len(piece.encode())
            yield piece


def warn_of_text_left_out(num_bytes: int) -> None:
    """Where the training text is more than a tokenizer learns from."""
    if num_bytes > TOKENIZER_BYTES:
        warnings.warn(
            f"the tokenizer is trained on {TOKENIZER_BYTES / 1e6:,.0f} MB of {num_bytes / 1e6:,.0f} MB, the first ones",
            stacklevel=2,
        )


def warn_of_small_vocabulary(tokenizer: Tokenizer, asked: int) -> None:
    """Of a tokenizer trained on so little text that it has fewer pieces than it might have had."""
    if (size := tokenizer.get_vocab_size()) < asked:
        warnings.warn(f"the text gives no more than {size:,} pieces, fewer than the {asked:,} asked for", stacklevel=2)


def check_unknown(splits: Mapping[str, Tokens], tokenizer: Tokenizer, data: str) -> None:
    """Warn of what became [UNK] in each split; `InputError` where it is most of one, so that nothing can be learned."""
    if tokenizer.token_to_id(UNK) is None:  # a byte-level tokenizer knows everything
        return
    for name, (tokens, count) in splits.items():
        if 2 * count > len(tokens):
            raise InputError(
                f"--data {data}: {count:,} of {len(tokens):,} tokens of {name} are unknown to the tokenizer: "
                "take one that was trained on such text, or a byte-level one"
            )
        if count:
            warnings.warn(
                f"{count:,} of {len(tokens):,} tokens of {name} are unknown to the tokenizer and count as one kind: "
                "its loss and bits per byte look better than they are",
                stacklevel=2,
            )
