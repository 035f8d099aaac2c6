"""The loss of an output layer over a large vocabulary, without holding all logits.

Torch's steps write the logits (N, V), a copy in float32, its log-softmax, and the gradient of each: for 32 rows of
1,024 tokens and GPT-2's vocabulary 30 GB, and as many passes over them. Here a chunk of rows goes from its logits to
its gradient before the next one begins. The vocabulary is filled up to a multiple of 64, without which a GPU multiplies
by 50,257 columns at a fraction of its speed. Speeds up the training of a GPT on a GPU.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minitransformer.kernels import differentiated, formula_gradients, product_dtype, untouched

_MULTIPLE = 64
_SMALLEST_VOCAB = 1024


def fits(states: Tensor, output: nn.Module) -> bool:
    """Whether it is the loss of `output(states)`, and faster. A layer with a hook, or of another class, may compute
    something else."""
    if not isinstance(output, nn.Linear) or not untouched(output, nn.Linear) or output.bias is not None:
        return False
    return states.is_cuda and states.dtype != torch.float64 and output.out_features >= _SMALLEST_VOCAB


def output_loss(
    states: Float[Tensor, "targets d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, " targets"],
    *,
    most_logits: int = 1 << 28,
) -> Float[Tensor, ""]:
    """Summed cross-entropy of the logits states @ weightᵀ. Every target must be an id of the vocabulary.

    A chunk has `most_logits` at most, by default 1 GB of them in float32, but one row at least.
    """
    trained = torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad)
    dtype = product_dtype(states)
    with torch.autocast(states.device.type, enabled=False):
        return _OutputLoss.apply(states, weight, targets.long(), dtype, most_logits, trained)


def _formula(states: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    logits = states.to(dtype) @ weight.to(dtype).T
    return F.cross_entropy(logits.to(_summing(dtype)), targets, reduction="sum")


def _summing(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _OutputLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        targets: Tensor,
        dtype: torch.dtype,
        most_logits: int,
        trained: bool,
    ) -> Tensor:
        vocab, width = weight.shape
        filled = weight.new_zeros(-(-vocab // _MULTIPLE) * _MULTIPLE, width, dtype=dtype)
        filled[:vocab] = weight
        rows, total = states.to(dtype), states.new_zeros((), dtype=_summing(dtype))
        if trained:
            of_states, of_weight = torch.empty_like(rows), torch.zeros_like(filled, dtype=_summing(dtype))
        size = max(1, most_logits // len(filled))
        for start in range(0, len(rows), size):
            chunk, wanted = rows[start : start + size], targets[start : start + size, None]
            logits = chunk @ filled.T
            logits[:, vocab:] = float("-inf")
            log_p = F.log_softmax(logits, dim=1, dtype=_summing(dtype))
            of_targets = log_p.gather(1, wanted)
            total -= of_targets.sum()
            if trained:
                gradient = torch.exp(log_p, out=logits)
                # p - 1 before it is rounded: a likely token's is small.
                gradient.scatter_(1, wanted, of_targets.expm1().to(dtype))
                torch.mm(gradient, filled, out=of_states[start : start + size])
                of_weight += gradient.T @ chunk
        if trained:
            ctx.dtype = dtype
            ctx.save_for_backward(states, weight, targets, of_states, of_weight)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        states, weight, targets, of_states, of_weight = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            if differentiated(gradient):
                formula = partial(_formula, targets=targets, dtype=ctx.dtype)
                return *formula_gradients(formula, (states, weight), gradient), None, None, None, None
            of_states, of_weight = of_states * gradient, of_weight[: len(weight)] * gradient
            return of_states.to(states.dtype), of_weight.to(weight.dtype), None, None, None, None
