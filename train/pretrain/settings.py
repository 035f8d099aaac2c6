"""The flags that pretraining a causal and a masked model share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch

from minitransformer.checks import Count, CountOrZero, Range, Share
from minitransformer.errors import InputError
from minitransformer.models import Model
from minitransformer.optim import adamw, muon
from train.engine.settings import Accumulate, LearningRate, LoopOptions, Settings, VocabSize

MODERN: dict[str, Any] = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "norm_eps": 1e-6,
    "activation": "relu_squared",
    "bias": False,
    "qk_norm": True,
}
"""The fields of a model's configuration under `--architecture modern`."""


@dataclass(frozen=True)
class PretrainSettings(Settings):
    """The shared flags; `GPTSettings` and `BERTSettings` add their own."""

    settings_file: ClassVar[str] = "settings.json"  # config.json is the model's
    reads_documents: ClassVar[bool] = True
    other_names: ClassVar[dict[str, str]] = {"max_length": "context"}

    text: str | None = None
    """The column of the texts in a table. Default: text, sentence, or the only one."""

    optimizer: Literal["muon", "muon+", "adamw"] = "muon"
    """muon: Muon for the matrices inside blocks, AdamW for the rest. muon+: the same with normalized updates."""
    lr: LearningRate | None = None
    """Peak learning rate. Default: 0.001 with adamw, else 0.005."""
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    warmup_steps: CountOrZero = 20
    momentum: Share = 0.95
    """The momentum of Muon. Runs of a few hundred steps learn faster with 0.9."""
    weight_decay: Annotated[float, Range(at_least=0, at_most=1000)] = 0.01
    accumulate: Accumulate = 1
    """Batches per step and process."""
    evaluations: Count = 10
    """Evaluations on the validation split, evenly over the run."""

    sizes: ClassVar[tuple[str, ...]] = ("num_layers", "d_model", "num_heads", "d_ff", "vocab_size")
    """The flags for sizes, which a checkpoint given by --init sets, as it sets dropout and the architecture."""
    init: Path | None = None
    """Start from the weights, sizes and tokenizer of a run or of a Hugging Face folder; with bert also of "minilm"."""
    vocab_size: VocabSize = 2000
    """The size of a vocabulary of pieces of words, trained on the training text."""
    num_layers: Count = 4
    d_model: Count = 128
    num_heads: Count = 4
    d_ff: Count | None = None
    """Default: 4 x --d-model, or 8/3 x with SwiGLU, which then has as many parameters."""
    context: Count | None = None
    """The most tokens that the model sees at once. Default: 128; with bert 64, or what --init allows if less."""
    dropout: Share = 0.0
    samples: bool = True
    """Show what the model writes at each evaluation, and keep it in samples.jsonl."""

    def validate(self) -> None:
        super().validate()
        if self.init is not None:
            self.refuse_idle(f"beside --init {self.init}", *self.sizes, "dropout", "architecture")
        if self.optimizer == "adamw":
            self.refuse_idle("with --optimizer adamw", "momentum")

    @property
    def peak_lr(self) -> float:
        return self.lr or (1e-3 if self.optimizer == "adamw" else 5e-3)

    def loop_options(self, *, minutes: float | None = None, **options: Any) -> LoopOptions:
        return super().loop_options(
            minutes=minutes,
            lr=self.peak_lr,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            accumulate=self.accumulate * self.processes,
            evaluations=self.evaluations,
            starts_trained=self.init is not None,
            **options,
        )

    def new_optimizer(self, model: Model) -> torch.optim.Optimizer:
        options: dict[str, Any] = {"lr": self.peak_lr, "weight_decay": self.weight_decay}
        if self.optimizer == "adamw":
            return adamw(model, **options)
        return muon(model, momentum=self.momentum, normalize=self.optimizer == "muon+", **options)

    def require_context_within(self, model: Any) -> None:
        """`InputError` if --context is longer than the learned positions of a model that --init names."""
        limit = model.config.max_length
        if model.positions is not None and (self.context or 0) > limit:
            raise InputError(f"--context {self.context}: {self.init} has learned positions for {limit} tokens")
