"""Kernels: faster, exact equals of formulas that stand in the open elsewhere, a file a formula.

The formula hands over to its kernel in one line, which asks `enabled("dropout")`. `disabled()` or the environment
variable `MINITRANSFORMER_KERNELS=0` switches kernels off: then the formulas compute. A kernel is named after its file.
It can be deleted together with its line.
"""

import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from minitransformer.errors import InputError

NAMES = frozenset(module.name for module in pkgutil.iter_modules(__path__))

# A context variable, so that a thread or task that switches kernels off does so for itself alone.
_disabled = ContextVar("disabled", default=NAMES if os.environ.get("MINITRANSFORMER_KERNELS") == "0" else frozenset())


@contextmanager
def disabled(*names: str) -> Iterator[None]:
    """Compute without these kernels, or without any if none is named. Raises `InputError` for an unknown name."""
    if unknown := set(names) - NAMES:
        raise InputError(f"no kernel is named {', '.join(sorted(unknown))}: the kernels are {', '.join(sorted(NAMES))}")
    token = _disabled.set(_disabled.get() | (frozenset(names) or NAMES))
    try:
        yield
    finally:
        _disabled.reset(token)


_call: ContextVar[object | None] = ContextVar("call", default=None)


@contextmanager
def one_call() -> Iterator[None]:
    """Until its end this thread runs the library's own code alone, which changes no model: a kernel that compares what
    the modules are with what they were does so once."""
    token = _call.set(object())
    try:
        yield
    finally:
        _call.reset(token)


def current_call() -> object | None:
    """Another object for each `one_call`; None outside."""
    return _call.get()


def enabled(name: str, *, compiled: bool = False) -> bool:
    """Whether the kernel may run: it is not switched off, and no transform looks through the operations.

    In a graph of `torch.compile` or `torch.export` the answer is `compiled`: a compiler writes kernels of its own.
    """
    if torch.compiler.is_compiling():  # first: torch.compile cannot trace a context variable
        return compiled
    return name not in _disabled.get() and not transformed()


def transformed() -> bool:
    """Whether `torch.func` (grad, vmap, jacrev, ...) or forward-mode differentiation looks through the operations.

    Kernels step aside then: some transforms see through plain operations only, and `torch.func.grad` makes every
    gradient differentiable, for which a kernel would return to the formula anyway.
    """
    return torch._C._are_functorch_transforms_active() or forward_mode._current_level >= 0


def untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of `module` runs `kind.forward` alone: no subclass, no `forward` of its own, no hooks."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    hooked = any(hooks) or torch_module._has_any_global_hook()
    return type(module) is kind and "forward" not in vars(module) and not hooked


def differentiated(gradient: Tensor) -> bool:
    """In a backward pass: whether its own gradient may be taken (`create_graph=True`), or `vmap` runs it for a batch of
    gradients (`is_grads_batched=True`)."""
    batched = torch._C._functorch.is_legacy_batchedtensor(gradient)
    return torch.is_grad_enabled() or batched or transformed()


def formula_gradients(formula: Callable[..., Tensor], inputs: tuple[Tensor, ...], gradient: Tensor) -> list[Any]:
    """The gradients of `formula(*inputs)` by torch's own steps, which can be differentiated; None where none is needed.

    For the backward pass of a kernel when it is `differentiated`: what a kernel saves on the way is no function of its
    inputs to autograd, so that the gradient of its own formula would be silently wrong.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, since one tensor may be handed in twice, and each place has a gradient of its own.
        views = [x.view_as(x) for x in inputs]
        output = formula(*views)
    needed = [x for x in views if x.requires_grad]
    found = iter(torch.autograd.grad(output, needed, gradient, create_graph=create_graph))
    return [next(found) if x.requires_grad else None for x in views]


def product_dtype(x: Tensor) -> torch.dtype:
    """In which matrix products of `x` are computed: autocast's, which leaves float64 alone, or its own."""
    cast = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    return torch.get_autocast_dtype(x.device.type) if cast else x.dtype
