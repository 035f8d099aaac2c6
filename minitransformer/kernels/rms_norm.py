"""RMSNorm in five passes over memory, where torch makes a dozen on a CPU.

Speeds up the training of models with `norm="rmsnorm"` or `qk_norm`, forward and backward, in float32.
Without a gradient torch's own kernel is as fast.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.kernels import differentiated, formula_gradients


def fits(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and torch.is_grad_enabled()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + eps) · weight over the last axis, of any dtype."""
    return _RMSNorm.apply(x, weight, eps)


def _by_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = lengths.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        ctx.eps = eps
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        if differentiated(gradient):
            for_x, for_weight = formula_gradients(partial(_by_torch, eps=ctx.eps), (x, weight), gradient)
            return for_x, for_weight, None
        # With s the scale and g the gradient: d weight = Σ g x s, and d x = s (g w) - x s³ mean(g w x).
        rows = (gradient * x).reshape(-1, len(weight))
        with torch.autocast("cpu", enabled=False):
            for_weight = rows.mT @ scale.reshape(-1)
            means = (rows @ weight).view(scale.shape).div_(len(weight)).mul_(scale**3)
        for_x = (gradient * weight).mul_(scale).addcmul_(x, means, value=-1)
        return for_x, for_weight, None
