"""The learning rate of each step."""

import math

import torch

from minitransformer.errors import InputError

SCHEDULES = ("constant", "noam", "cosine", "linear", "wsd")


def learning_rate(
    schedule: str, peak: float, *, step: int, progress: float, warmup_steps: int = 0, final: float = 0.0
) -> float:
    """The learning rate of `step`, counted from 1, at the fraction `progress` (0 to 1) of the run's steps or time.

    Every schedule rises linearly over `warmup_steps` to `peak` and then falls to `final` · `peak`: "linear" and
    "cosine" over the whole run, "wsd" (warmup-stable-decay) linearly over the last 20% of it; "constant" does not fall.
    "noam" falls with 1/√step and ignores `progress` and `final`: with peak = (d_model · warmup_steps)^-0.5 it is that
    of Vaswani et al. 2017, section 5.3.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule={schedule!r} must be one of {', '.join(SCHEDULES)}")
    warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    if schedule == "noam":
        return peak * warmup * math.sqrt(max(1, warmup_steps) / max(step, warmup_steps, 1))
    progress = min(max(progress, 0.0), 1.0)
    remaining = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "wsd": min(1.0, (1.0 - progress) / 0.2),
    }[schedule]
    return peak * warmup * (final + (1.0 - final) * remaining)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group to `lr`, times the group's `lr_scale` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
