"""The models that `train.translate` compares, and how each is trained: a table of recipes for each preset.

Everything here was chosen on validation splits (`docs/results.md` has the scores). Batches are the same for all models
of a table but "talk".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from minitransformer.models import RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig
from minitransformer.optim import adamw, muon
from train.engine.presets import Preset

Seq2SeqModel = Transformer | RNNSeq2Seq


@dataclass(frozen=True)
class Recipe:
    """How to build a model and how to train it.

    `build(source_vocab_size=, target_vocab_size=, joint=, max_length=, ...)` returns the model. `joint` says that both
    sides share a vocabulary; further arguments are fields of the model's configuration.
    """

    build: Callable[..., Seq2SeqModel]
    lr: float
    max_tokens: int = 2400
    pool: int = 1
    schedule: str = "linear"
    warmup_steps: int = 100
    optimizer: Callable[..., torch.optim.Optimizer] = adamw
    other_rates: Mapping[str, float] = field(default_factory=dict)
    """The learning rate with each of the other `OPTIMIZERS` that can train the model."""
    clip: float | None = 1.0
    loss_reduction: str = "mean"

    def with_optimizer(self, name: str) -> "Recipe":
        """The recipe with one of `OPTIMIZERS`, and the learning rate that suits it."""
        optimizer = OPTIMIZERS[name]
        return self if optimizer is self.optimizer else replace(self, optimizer=optimizer, lr=self.other_rates[name])


def transformer(*, zero_residual: bool = False, **config: Any) -> Callable[..., Transformer]:
    def build(*, joint: bool, **sizes: Any) -> Transformer:
        model = Transformer(TransformerConfig(**{"share_embeddings": joint, **config, **sizes}))
        if zero_residual:
            model.init_weights(zero_residual=True)
        return model

    return build


def rnn(**config: Any) -> Callable[..., RNNSeq2Seq]:
    def build(*, joint: bool, **sizes: Any) -> RNNSeq2Seq:
        return RNNSeq2Seq(RNNConfig(**{**config, **sizes}))

    return build


def sgd(model: torch.nn.Module, *, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": adamw, "muon": muon}

# About 66,000 parameters each on dates.
SHORT: dict[str, Any] = dict(
    d_model=32, d_ff=146, num_encoder_layers=2, num_decoder_layers=2, pre_norm=True, dropout=0.0
)
CHARACTERS = {
    "transformer": Recipe(transformer(**SHORT, num_heads=2, positions="rotary"), lr=1e-2, other_rates={"muon": 4e-2}),
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
        other_rates={"adamw": 1e-3},
        clip=None,
        loss_reduction="sum",
    ),
}

# For runs of seconds, in which the rate falls to zero: small batches make many steps. With rotary positions one seed of
# three learned far more slowly.
QUICK_BATCHES: dict[str, Any] = dict(max_tokens=1200, warmup_steps=30)
QUICK = {
    "rnn-additive": replace(CHARACTERS["rnn-additive"], lr=2e-2, **QUICK_BATCHES),
    "transformer": Recipe(
        transformer(**SHORT, num_heads=4, positions="relative", tie_output=False),
        lr=4e-2,
        optimizer=muon,
        other_rates={"adamw": 1e-2},
        **QUICK_BATCHES,
    ),
}

# Associative recall needs attention to the token before. With learned relative positions a model finds it early; with
# rotary positions it was still guessing after 3,000 steps.
RECALL = {
    "transformer": Recipe(transformer(**SHORT, num_heads=4, positions="relative"), lr=5e-3, other_rates={"muon": 2e-2})
}

# Dates of hundreds of locales have that many names for each month and day, in 1,600 different characters. Batches are
# twice as large as on English dates, for the RNNs too.
LOCALES_BATCHES: dict[str, Any] = dict(max_tokens=4800, pool=10)
LOCALES = {
    **{name: replace(recipe, **LOCALES_BATCHES) for name, recipe in CHARACTERS.items() if name.startswith("rnn-")},
    "transformer": Recipe(
        transformer(
            d_model=64,
            d_ff=256,
            num_encoder_layers=3,
            num_decoder_layers=2,
            num_heads=4,
            positions="rotary",
            pre_norm=True,
            dropout=0.0,
        ),
        lr=1e-2,
        warmup_steps=20,
        optimizer=muon,
        other_rates={"adamw": 1e-2},
        **LOCALES_BATCHES,
    ),
}

# RNNs with Bahdanau's attention, with Luong's and input feeding, and without.
# With dropout on attention weights, a CPU could not use its fast attention kernels.
SENTENCES: dict[str, Any] = dict(
    d_model=128,
    d_ff=512,
    num_encoder_layers=4,
    num_decoder_layers=4,
    num_heads=4,
    pre_norm=True,
    positions="rotary",
    norm="rmsnorm",
    norm_eps=1e-6,
    activation="relu_squared",
    bias=False,
    zero_residual=True,
    dropout=0.1,
    attention_dropout=0.0,
    word_dropout=0.1,
    label_smoothing=0.1,
)
SENTENCES_RNN: dict[str, Any] = dict(d_model=256, hidden_size=256, tie_output=True, dropout=0.3, label_smoothing=0.1)
RNN_KINDS: dict[str, dict[str, Any]] = {
    "rnn-additive": dict(attention="additive", bidirectional=True),
    "rnn-dot": dict(attention="dot", input_feeding=True),
    "rnn-general": dict(attention="general", bidirectional=True, input_feeding=True),
    "rnn-concat": dict(attention="concat", bidirectional=True, input_feeding=True),
    "rnn-local-p": dict(attention="local-p", bidirectional=True, input_feeding=True),
    "rnn-none": dict(attention="none", bidirectional=True),
}
BATCHES: dict[str, Any] = dict(max_tokens=4096, pool=200)
TINY = {
    "transformer": Recipe(transformer(**SENTENCES), lr=5e-3, optimizer=muon, other_rates={"adamw": 6e-3}, **BATCHES),
    **{name: Recipe(rnn(**kind, **SENTENCES_RNN), lr=3e-3, **BATCHES) for name, kind in RNN_KINDS.items()},
}


@dataclass(frozen=True, kw_only=True)
class ModelsPreset(Preset):
    """A preset that also has a recipe for each model, which is more than flags can say."""

    recipes: Mapping[str, Recipe]
    tokenizer: Literal["character", "bpe"] = "bpe"
    """character for short strings, bpe for sentences."""


PRESETS = {
    "characters": ModelsPreset(
        "66,000 parameters for short strings, chosen on dates.", recipes=CHARACTERS, tokenizer="character"
    ),
    "dates-15s": ModelsPreset(
        "The dates in 15 seconds each: a Transformer and Bahdanau's RNN of the same size.",
        dict(data="dates", models="rnn-additive,transformer", minutes=0.25, evaluations=20),
        recipes=QUICK,
        tokenizer="character",
    ),
    "dates-of-all-locales": ModelsPreset(
        "Dates in every language of CLDR, one Transformer: 99.7% in 26 minutes on one core.",
        dict(data="dates", locales="all", models="transformer", steps=8000),
        recipes=LOCALES,
        tokenizer="character",
    ),
    "tiny": ModelsPreset("4 + 4 layers x 128 for sentences, RNNs of 256.", recipes=TINY),
    "multi30k-20min": ModelsPreset(
        "The same for 20 minutes on two cores. BLEU on Multi30k's validation pairs, German to English: 44.0.",
        dict(minutes=20.0),
        recipes=TINY,
    ),
}


def recipe_for(model: str, preset: str, data: str) -> Recipe:
    """The recipe of a preset. With "characters", some models have their own recipe for `data` "recall" (associative
    recall) and "locales" (dates in several locales)."""
    own = {"recall": RECALL, "locales": LOCALES}.get(data, {}) if preset == "characters" else {}
    return own.get(model, PRESETS[preset].recipes[model])
