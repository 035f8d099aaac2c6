"""Norms: vectors brought to one size."""

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import InputError

NormName = Literal["layernorm", "rmsnorm"]

Norm = NormName | Callable[[int], nn.Module]
"""A name, or a module class or another callable that makes a norm for vectors of a size."""


def make_norm(norm: Norm, d_model: int, *, eps: float = 1e-5, bias: bool = True) -> nn.Module:
    """LayerNorm (Ba et al. 2016), or `RMSNorm`, which has no bias; `eps` and `bias` are for these names.

    A module class or another callable is called with `d_model` alone: `norm=partial(nn.LayerNorm, eps=1e-6)`.
    """
    if not isinstance(norm, str):
        return norm(d_model)
    if norm not in (names := get_args(NormName)):
        raise InputError(f"norm={norm!r} must be one of {', '.join(names)}, or a callable")
    return nn.LayerNorm(d_model, eps=eps, bias=bias) if norm == "layernorm" else RMSNorm(d_model, eps=eps)


class RMSNorm(nn.RMSNorm):
    """x / √(mean(x²) + eps) · weight: LayerNorm that does not centre (Zhang and Sennrich 2019)."""

    eps: float

    def __init__(self, d_model: int, *, eps: float = 1e-5):
        super().__init__(d_model, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`RMSNorm` by `weight`, in the precision of x."""
    if x.dtype == weight.dtype:
        return F.rms_norm(x, weight.shape, weight, eps)
    # Autocast leaves the weight in float32, and torch computes in float32 then; but it warns of the mixture.
    return F.rms_norm(x.to(weight.dtype), weight.shape, weight, eps).to(x.dtype)
