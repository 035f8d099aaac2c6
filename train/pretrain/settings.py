"""The flags that pretraining a causal and a masked model share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from minitransformer.errors import InputError
from minitransformer.models import Model
from minitransformer.optim import adamw, muon
from train.engine.loop import LoopOptions
from train.engine.settings import Settings

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
class PretrainSettings(Settings):
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
