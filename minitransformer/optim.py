"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from minitransformer.errors import InputError

SCHEDULES = ("constant", "noam", "cosine", "linear", "wsd")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters of `model` in two groups: weight decay falls on matrices, not on norms, biases or embeddings."""
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.dim() >= 2 and p not in embeddings]
    kept = [p for p in parameters if p.dim() < 2 or p in embeddings]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-9,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused into one pass over the parameters; β and ε of Vaswani et al. 2017."""
    groups = parameter_groups(model, weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def learning_rate(
    schedule: str, peak: float, *, step: int, progress: float, warmup_steps: int = 0, final: float = 0.0
) -> float:
    """The learning rate of `step`, counted from 1, when the share `progress` (0 to 1) of the run is done.

    Every schedule rises linearly over `warmup_steps` to `peak`. Then, towards `final` · `peak`: "constant" stays;
    "linear" and "cosine" fall over the whole run; "wsd" stays for 80% of the run and falls linearly over the rest
    (warmup-stable-decay); "noam" falls with 1/√step and ignores `progress`: peak = (d_model · warmup_steps)^-0.5
    is Vaswani et al. 2017, section 5.3. Progress may be a share of steps or of time.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule={schedule!r} is none of {', '.join(SCHEDULES)}")
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
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> float:
    """Scale the gradients down to a joint length of `max_norm` at most (None: leave them); their length before."""
    limit = math.inf if max_norm is None else max_norm
    return nn.utils.clip_grad_norm_(parameters, limit).item()
