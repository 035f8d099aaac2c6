"""The models that `train.translate` compares, each about 66,000 parameters on dates.

Rates were chosen on the validation dates (`docs/results.md` has the figures); batches are the same for all but "talk".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from minitransformer.models import RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig
from minitransformer.optim import adamw


@dataclass(frozen=True)
class Recipe:
    """`build(source_vocab_size=, target_vocab_size=, max_length=)` gives the model; the rest is how to train it."""

    build: Callable[..., Transformer | RNNSeq2Seq]
    lr: float
    max_tokens: int = 2400
    schedule: str = "linear"
    warmup_steps: int = 100
    optimizer: Callable[..., torch.optim.Optimizer] = adamw
    clip: float | None = 1.0
    loss_reduction: str = "mean"


def transformer(**config: Any) -> Callable[..., Transformer]:
    return lambda **vocabulary: Transformer(TransformerConfig(**config, **vocabulary))


def rnn(**config: Any) -> Callable[..., RNNSeq2Seq]:
    return lambda **vocabulary: RNNSeq2Seq(RNNConfig(**config, **vocabulary))


def sgd(model: torch.nn.Module, *, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


SMALL = dict(d_model=32, d_ff=146, num_encoder_layers=2, num_decoder_layers=2, pre_norm=True, dropout=0.0)

RECIPES = {
    "transformer": Recipe(transformer(**SMALL, num_heads=2, positions="rotary"), lr=1e-2),
    "rnn-location": Recipe(rnn(attention="location", d_model=64, hidden_size=64, dropout=0.0), lr=1e-2),
    "rnn-additive": Recipe(
        rnn(attention="additive", d_model=32, hidden_size=47, bidirectional=True, dropout=0.0), lr=1e-2
    ),
    "rnn-dot": Recipe(rnn(attention="dot", d_model=32, hidden_size=77, dropout=0.0), lr=1e-2),
    "rnn-general": Recipe(
        rnn(attention="general", d_model=32, hidden_size=54, bidirectional=True, dropout=0.0), lr=1e-2
    ),
    "rnn-concat": Recipe(rnn(attention="concat", d_model=32, hidden_size=53, bidirectional=True, dropout=0.0), lr=1e-2),
    "rnn-none": Recipe(rnn(attention="none", d_model=64, hidden_size=73, dropout=0.0), lr=1e-2),
    # The talk's own training: one pair a step, plain SGD on summed losses, a coin for teacher forcing.
    "talk": Recipe(
        rnn(attention="location", masked=False, teacher_forcing=0.5),
        lr=0.005,
        max_tokens=1,
        schedule="constant",
        warmup_steps=0,
        optimizer=sgd,
        clip=None,
        loss_reduction="sum",
    ),
}

# On associative recall a model must first learn to look at the token before. A learned bias can do so from its first
# step; rotary positions were still guessing after 3,000.
RECALL_RECIPES = {"transformer": Recipe(transformer(**SMALL, num_heads=4, positions="relative"), lr=5e-3)}


def recipe_for(model: str, data: str) -> Recipe:
    return (RECALL_RECIPES if data == "recall" else {}).get(model, RECIPES[model])
