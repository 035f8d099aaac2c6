"""Kernels: faster, exact equals of formulas that stand in the open elsewhere, a file a formula.

The formula hands over to its kernel by one line that asks `enabled("gelu")`. With kernels off, by `disabled()` or the
environment variable `MINITRANSFORMER_KERNELS=0`, the formulas alone compute. A kernel is named after its file, and can
be deleted together with its line.
"""

import os
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.autograd.forward_ad as forward_mode

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


def enabled(name: str) -> bool:
    """Whether the kernel may run: it is not switched off, and nothing traces or transforms the operations."""
    # First, since torch.compile cannot trace a context variable. A compiler writes kernels of its own.
    return not torch.compiler.is_compiling() and name not in _disabled.get() and not transformed()


def transformed() -> bool:
    """Whether `torch.func` (grad, vmap, jacrev, ...) or forward-mode differentiation looks through the operations.

    Kernels step aside then: some transforms see through plain operations only, and `torch.func.grad` makes every
    gradient differentiable, for which a kernel would return to the formula anyway.
    """
    return torch._C._are_functorch_transforms_active() or forward_mode._current_level >= 0
