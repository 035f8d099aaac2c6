"""Attention by torch's fused kernels.

A fused kernel never holds the weights, so that memory grows with T instead of T². Speeds up attention on a GPU; on a
CPU the training of `BERT` and `Transformer` on texts of more than 96 tokens, evaluation, and every step of decoding.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.kernels import differentiated, formula_gradients, product_dtype
from minitransformer.masks import causal_mask, mended_mask


def fits(query: Tensor, key: Tensor, *, dropout: float) -> bool:
    """Whether it beats matmuls and a softmax. On a CPU it cannot drop out, its backward pass takes longer up to about
    96 keys, and in bfloat16 it takes two to four times as long, except for a single query over few keys."""
    if query.device.type != "cpu":
        return True
    if dropout > 0.0:
        return False
    if product_dtype(query) == torch.bfloat16:
        return key.shape[2] > 512 or (query.shape[2] == 1 and key.numel() <= 1 << 15)
    return key.shape[2] > 96 or query.shape[2] == 1 or not query.requires_grad


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`attention` by `F.scaled_dot_product_attention`, whose causal mask is aligned with the first key, ours with the
    last: the two agree on a square only."""
    square = query.shape[2] == key.shape[2] and mask is None and bias is None
    if causal and not square and query.shape[2] > 1:
        allowed = causal_mask(query.shape[2], key.shape[2], device=query.device)
        mask = allowed if mask is None else mask & allowed
    mask, nothing = (None, None) if mask is None else mended_mask(mask)
    if bias is not None:
        bias = bias.to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    how: dict[str, Any] = {"attn_mask": mask, "is_causal": causal and square, "scale": scale}
    how["enable_gqa"] = query.shape[1] != key.shape[1]
    trained = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if trained and not dropout and (bias is None or not bias.requires_grad) and not torch.compiler.is_compiling():
        output = _twice_differentiable(query, key, value, how)
    else:
        output = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, **how)
    return output if nothing is None else output.masked_fill(nothing, 0.0)


def _twice_differentiable(query: Tensor, key: Tensor, value: Tensor, how: dict[str, Any]) -> Tensor:
    query, key, value = (x.to(product_dtype(x)) for x in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):
        return _Fused.apply(query, key, value, how)


class _Fused(torch.autograd.Function):
    """Torch's fused kernels raise an error when a second gradient is taken: a backward pass that is itself
    differentiated is that of plain products here."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, how: dict[str, Any]) -> Tensor:
        with torch.enable_grad():
            inputs = q, k, v = [x.detach().requires_grad_(x.requires_grad) for x in (query, key, value)]
            output = F.scaled_dot_product_attention(q, k, v, **how)
        ctx.graph, ctx.how = (inputs, output), how
        ctx.save_for_backward(query, key, value)
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        with torch.autocast(gradient.device.type, enabled=False):
            if differentiated(gradient):
                return *formula_gradients(partial(_by_products, how=ctx.how), ctx.saved_tensors, gradient), None
            inputs, output = ctx.graph
            keep = torch._C._autograd._get_current_graph_task_keep_graph()
            needed = [x for x in inputs if x.requires_grad]
            found = iter(torch.autograd.grad(output, needed, gradient, retain_graph=keep))
            ctx.graph = ctx.graph if keep else None  # which frees its memory
            return *(next(found) if x.requires_grad else None for x in inputs), None


def _by_products(query: Tensor, key: Tensor, value: Tensor, how: dict[str, Any]) -> Tensor:
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(query, key, value, **how)
