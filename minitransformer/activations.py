"""Activations that torch has, faster."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


def gelu_tanh(x: Tensor) -> Tensor:
    """x / 2 · (1 + tanh u), u = √(2/π) (x + 0.044715 x³): the GELU of GPT-2 (Hendrycks and Gimpel 2016)."""
    if x.device.type != "cpu" or x.numel() < 4096:
        return F.gelu(x, approximate="tanh")
    if x.dtype == torch.bfloat16 and x.requires_grad and not torch.compiler.is_compiling():
        return _HalfGELU.apply(x)
    if x.dtype not in (torch.float32, torch.float64):
        return F.gelu(x, approximate="tanh")
    return _SigmoidGELU.apply(x) if torch.is_grad_enabled() else x * _gate(x)


def _gate(x: Tensor) -> Tensor:
    """sigmoid(2u)"""
    return torch.addcmul(x.new_tensor(_LINEAR), x, x, value=_CUBIC).mul_(x).sigmoid_()


def _derivable(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at x, by torch's own steps."""
    (slope,) = torch.autograd.grad(F.gelu(x, approximate="tanh"), x, gradient, create_graph=True)
    return slope


class _SigmoidGELU(torch.autograd.Function):
    """The same number as x · sigmoid(2u). On a CPU torch's kernel spends its time in tanh, 3.5 times that of a
    sigmoid, so that nine plain passes over memory, forward and backward, take less."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate = _gate(x)
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, gate = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient of this gradient
            return _derivable(x, gradient)
        # (x s)' = s + s (1 - s) x (2u)', with x (2u)' = x (linear + 3 cubic x²); all in one piece of memory, since
        # to take a fresh one costs a CPU as much as a pass over it.
        slope = torch.addcmul(x.new_tensor(_LINEAR), x, x, value=3 * _CUBIC).mul_(x)
        slope.addcmul_(slope, gate, value=-1)
        return torch.addcmul(gate, gate, slope, out=slope).mul_(gradient)


class _HalfGELU(torch.autograd.Function):
    """The same in bfloat16, each number rounded once: worked out in float32, piece by piece in the processor's cache,
    with the slope at once, which then is all that the backward pass needs."""

    PIECE = 1 << 17

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output, slope = (torch.empty(x.shape, dtype=x.dtype) for _ in range(2))
        pieces = (tensor.view(-1).split(_HalfGELU.PIECE) for tensor in (x.contiguous(), output, slope))
        for part, to_output, to_slope in zip(*pieces, strict=True):
            y = part.float()
            squares = y * y
            gate = (squares * _CUBIC).add_(_LINEAR).mul_(y).sigmoid_()
            inner = squares.mul_(3 * _CUBIC).add_(_LINEAR).mul_(y)  # x (2u)'
            to_slope.copy_(torch.addcmul(gate, inner.mul_(gate), 1 - gate))
            to_output.copy_(gate.mul_(y))
        ctx.save_for_backward(x, slope)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient of this gradient
            return _derivable(x, gradient)
        return gradient * slope
