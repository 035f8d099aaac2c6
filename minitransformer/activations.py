"""Activations: the function between the two layers of a feed-forward network."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import InputError


def gelu_tanh(x: Tensor) -> Tensor:
    """x / 2 · (1 + tanh u), u = √(2/π) (x + 0.044715 x³): the GELU of GPT-2 (Hendrycks and Gimpel 2016)."""
    return F.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)² (So et al. 2021)."""
    return F.relu(x).square()


ActivationName = Literal["relu", "gelu", "gelu_tanh", "relu_squared", "swiglu"]

ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,  # with erf; the tanh form differs by up to 5e-4
    "gelu_tanh": gelu_tanh,
    "relu_squared": relu_squared,
    "swiglu": F.silu,  # of the gate: see FeedForward
}

Activation = ActivationName | Callable[[Tensor], Tensor] | type[nn.Module]
"""A name, or a function, a module, or a module class, of which each network makes its own."""


def make_activation(activation: Activation) -> Callable[[Tensor], Tensor]:
    """Raises `InputError` for an unknown name."""
    if isinstance(activation, type):
        return activation()
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise InputError(f"activation={activation!r} must be one of {', '.join(ACTIVATIONS)}, or a callable")
    return ACTIVATIONS[activation]
