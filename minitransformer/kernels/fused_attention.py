"""Attention by torch's fused kernels.

A fused kernel never holds the weights, so that memory grows with T instead of T². Speeds up attention on a GPU, and on
a CPU over more than 96 keys: the training of `BERT` and `Transformer` on long texts, and every step of decoding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.kernels.causal_attention import product_dtype
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
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal and square,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output if nothing is None else output.masked_fill(nothing, 0.0)
