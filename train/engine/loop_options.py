"""The options of the training loop."""

from dataclasses import dataclass

import torch

from minitransformer.errors import InputError


@dataclass(frozen=True)
class LoopOptions:
    """How to train one model. Its length is `steps`, `minutes` of training, or whichever comes first."""

    lr: float
    steps: int | None = None
    minutes: float | None = None
    schedule: str = "linear"
    warmup_steps: int = 100
    final_lr: float = 0.0
    clip: float | None = 1.0
    accumulate: int = 1
    """Batches in a step, of all processes together."""
    loss_reduction: str = "mean"
    evaluations: int = 20
    patience: int | None = None
    """Stop after so many evaluations without a better one."""
    unit: str = "tokens"
    """What targets are called in progress and metrics."""
    autocast: torch.dtype | None = None
    fsdp: bool = False
    """Shard the model over the processes instead of copying it to each."""
    compile: bool = False
    checkpoint_seconds: float | None = None
    """Seconds between checkpoints. None: a minute, or longer where writing would take more than 1% of the time."""
    keep_checkpoints: int = 2
    keep_evaluated: bool = False
    """Keep the weights of every evaluation, for `averaging`."""
    skip_not_finite: int = 0
    """How many steps to skip, over the whole run, because their loss or gradient is not finite."""

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InputError("a run needs a length: give steps or minutes")
