"""Norms: vectors brought to one size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import InputError

NORMS = ("layernorm", "rmsnorm")


def make_norm(name: str, d_model: int, *, eps: float = 1e-5, bias: bool = True) -> nn.Module:
    """LayerNorm (Ba et al. 2016), or `RMSNorm`, which has no bias."""
    if name not in NORMS:
        raise InputError(f"norm={name!r} is none of {', '.join(NORMS)}")
    return nn.LayerNorm(d_model, eps=eps, bias=bias) if name == "layernorm" else RMSNorm(d_model, eps=eps)


class RMSNorm(nn.RMSNorm):
    """x / √(mean(x²) + eps) · weight: LayerNorm that does not centre (Zhang and Sennrich 2019).

    `torch.nn.RMSNorm`, of which torch makes a dozen passes over memory on a CPU, at half their time.
    """

    def __init__(self, d_model: int, *, eps: float):
        super().__init__(d_model, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and torch.is_grad_enabled():
            return _RMSNorm.apply(x, self.weight, self.eps)
        return super().forward(x)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = lengths.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        ctx.eps = eps
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient of this gradient
            output = F.rms_norm(x, weight.shape, weight, ctx.eps)
            slopes = torch.autograd.grad(output, (x, weight), gradient, create_graph=True)
            return slopes[0], slopes[1], None
        # With s the scale and g the gradient: d weight = Σ g x s, and d x = s (g w) - x s³ mean(g w x).
        rows = (gradient * x).reshape(-1, len(weight))
        for_weight = rows.mT @ scale.reshape(-1)
        means = (rows @ weight).view(scale.shape).div_(len(weight)).mul_(scale**3)
        for_x = (gradient * weight).mul_(scale).addcmul_(x, means, value=-1)
        return for_x, for_weight, None
