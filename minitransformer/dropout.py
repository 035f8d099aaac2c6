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
    plain = x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or not 0 < level < _LEVELS
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
        draws = draws.view(torch.int16)[: x.numel()].view(x.shape)
        # Straight into 0.0 and 1.0: a boolean tensor takes as long again to become numbers.
        kept = torch.ge(draws, level - _LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
        ctx.scale = _LEVELS / (_LEVELS - level)
        ctx.save_for_backward(kept)
        # One after the other: in bfloat16 a tensor of scales would round them, all to one side.
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0] * ctx.scale, None
