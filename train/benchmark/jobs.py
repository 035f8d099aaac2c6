"""The models of the default jobs, with a batch of random data each: what a kernel or a checkpoint is measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.models import BERT, GPT, BERTConfig, GPTConfig, SequenceClassifier
from minitransformer.optim import adamw, muon
from train.pretrain.settings import MODERN
from train.translate.recipes import recipe_for

IDS: dict[str, Any] = {"pad_id": 0, "cls_id": 1, "sep_id": 2, "mask_id": 3}


@dataclass(frozen=True)
class Job:
    """How to make the model and a batch of it, and the job's optimizer."""

    build: Callable[[], Any]
    batch: Callable[[], dict[str, Tensor]]
    optimizer: Callable[..., torch.optim.Optimizer]


def gpt() -> GPT:
    """The default model of `train.pretrain gpt`."""
    sizes: dict[str, Any] = {"vocab_size": 90, "max_length": 128, "d_model": 128, "num_heads": 4, "num_layers": 4}
    return GPT(GPTConfig(**sizes, eos_id=89, dropout=0.0, **MODERN))


def _gpt2() -> GPT:
    sizes: dict[str, Any] = {"vocab_size": 65, "max_length": 256, "d_model": 384, "num_heads": 6, "num_layers": 6}
    return GPT(GPTConfig(**sizes, eos_id=0, dropout=0.0))


def _windows(vocab_size: int, rows: int, context: int) -> dict[str, Tensor]:
    return {"ids": torch.randint(vocab_size, (rows, context + 1))}


def _bert(max_length: int) -> BERT:
    sizes: dict[str, Any] = {"vocab_size": 8000, "d_model": 128, "num_heads": 4, "num_layers": 4}
    return BERT(BERTConfig(**sizes, max_length=max_length, **IDS, **MODERN, pre_norm=True, sentence_head="nsp"))


def _masked_rows(rows: int, length: int) -> dict[str, Tensor]:
    ids = torch.randint(4, 8000, (rows, length))
    return {"ids": ids, "targets": torch.where(torch.rand(ids.shape) < 0.15, ids, -100)}


def _minilm() -> SequenceClassifier:
    sizes: dict[str, Any] = {"vocab_size": 30522, "max_length": 512, "d_model": 384, "num_heads": 12, "num_layers": 6}
    heads: dict[str, Any] = {"masked_head": False, "sentence_head": None, "pooler": False}
    return SequenceClassifier(BERT(BERTConfig(**sizes, d_ff=1536, **IDS, **heads)), 2)


def _labelled_texts() -> dict[str, Tensor]:
    return {"ids": torch.randint(4, 30522, (32, 32)), "labels": torch.randint(2, (32,))}


def _translator(preset: str, vocab_size: int) -> nn.Module:
    sizes: dict[str, Any] = {"source_vocab_size": vocab_size, "target_vocab_size": vocab_size, "max_length": 64}
    return recipe_for("transformer", preset, "dates").build(**sizes, joint=preset != "characters")


def _pairs(rows: int, length: int, vocab_size: int) -> dict[str, Tensor]:
    source, target = (torch.randint(4, vocab_size, (rows, length)) for _ in range(2))
    return {"source_ids": source, "source_valid": torch.ones_like(source, dtype=torch.bool), "target_ids": target}


JOBS = {
    "translate": Job(partial(_translator, "characters", 60), partial(_pairs, 60, 20, 60), adamw),
    "translate sentences": Job(partial(_translator, "tiny", 8000), partial(_pairs, 80, 25, 8000), muon),
    "pretrain gpt": Job(gpt, partial(_windows, 90, 16, 128), muon),
    "GPT-2 6 x 384, context 256": Job(_gpt2, partial(_windows, 65, 8, 256), adamw),
    "pretrain bert": Job(partial(_bert, 64), partial(_masked_rows, 16, 64), muon),
    "BERT 4 x 128, context 256": Job(partial(_bert, 256), partial(_masked_rows, 16, 256), muon),
    "finetune": Job(_minilm, _labelled_texts, adamw),
}
