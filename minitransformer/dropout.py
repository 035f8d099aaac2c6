"""Dropout (Srivastava et al. 2014) that a CPU can afford."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


def dropout(x: Tensor, p: float) -> Tensor:
    """Each number of `x` set to 0 with probability `p`, the others scaled so that the mean stays.

    On a CPU torch draws a random number for each, which takes a third of a step of a small model. Here one draw of
    64 bits decides over four, so that `p` is rounded to a multiple of 1/65,536, and the scale with it.
    """
    level = round(p * _LEVELS)
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or not 0 < level < _LEVELS
    if plain or torch.compiler.is_compiling():
        return F.dropout(x, p)
    return _Dropout.apply(x, level)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by way of `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p > 0.0 else x


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, level: int) -> Tensor:
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - _LEVELS // 2
        scale = kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - level))
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None
