"""Attention: each query takes a weighted mean of the values, weighted by how well their keys match it."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.attention_maps import AttentionMap, record_attention
from minitransformer.cache import KVCache
from minitransformer.dropout import dropout as drop
from minitransformer.errors import InputError
from minitransformer.kernels.causal_attention import LONGEST, attention_by_blocks, product_dtype
from minitransformer.masks import causal_mask
from minitransformer.norms import RMSNorm
from minitransformer.positions import AttentionPositions

__all__ = [
    "AttentionMap",
    "KVCache",
    "MultiHeadAttention",
    "ScaledDotProduct",
    "attention",
    "attention_weights",
    "record_attention",
]


def attention(
    query: Float[Tensor, "batch heads query head_dim"],
    key: Float[Tensor, "batch kv_heads key head_dim"],
    value: Float[Tensor, "batch kv_heads key value_dim"],
    mask: Bool[Tensor, "#batch #heads #query #key"] | None = None,
    *,
    causal: bool = False,
    bias: Float[Tensor, "#batch #heads #query #key"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads query value_dim"]:
    """Scaled dot-product attention: softmax(q kᵀ / √head_dim + bias) v (Vaswani et al. 2017, eq. 1).

    `mask` is True where a query may attend; `causal` adds the rule of `causal_mask`. A query that may attend to
    nothing returns zeros and sends back zero gradients. Fewer key heads than query heads are shared by
    consecutive query heads (grouped queries, Ainslie et al. 2023). In bfloat16 on a CPU scores are rounded to it
    before the softmax, as plain products are; in float32 all ways agree to 1e-5. Raises `InputError` for a mask of
    another rank or type, and for heads that do not divide.
    """
    _check(query, key, mask)
    # torch aligns its causal mask with the first key, we with the last: the two agree on a square only.
    square = query.shape[2] == key.shape[2]
    torch_causal = causal and square and mask is None and bias is None
    if torch_causal and not dropout and _blocks_are_faster(query, key):
        return attention_by_blocks(query, key, value, query.shape[-1] ** -0.5 if scale is None else scale)
    if _plain_is_faster(query, key, dropout):
        weights = attention_weights(query, key, mask, causal=causal, bias=bias, scale=scale)
        return _weighted_sum(drop(weights, dropout), value)

    mask, nothing = _mended_mask(query, key, mask, causal and not torch_causal)
    if bias is not None:
        bias = bias.to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=torch_causal,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output if nothing is None else output.masked_fill(nothing, 0.0)


def attention_weights(
    query: Float[Tensor, "batch heads query head_dim"],
    key: Float[Tensor, "batch kv_heads key head_dim"],
    mask: Bool[Tensor, "#batch #heads #query #key"] | None = None,
    *,
    causal: bool = False,
    bias: Float[Tensor, "#batch #heads #query #key"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch heads query key"]:
    """The weights inside `attention`: softmax(q kᵀ / √head_dim + bias), each row a distribution over keys.

    The row of a query that may attend to nothing is zeros.
    """
    _check(query, key, mask)
    mask, nothing = _mended_mask(query, key, mask, causal)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    # Grouped: the query heads that share a key head are stacked along its query axis, one matmul for all of them.
    batch, heads, queries, head_dim = query.shape
    _, kv_heads, keys, _ = key.shape
    grouped = query.reshape(batch * kv_heads, heads // kv_heads * queries, head_dim)
    # β = 0 ignores the first argument: the scale goes into the matmul.
    products = torch.baddbmm(
        query.new_zeros(()), grouped, key.reshape(batch * kv_heads, keys, head_dim).mT, beta=0, alpha=scale
    )
    scores = products.view(batch, heads, queries, keys)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        # Added, not filled in: a broadcast sum is the faster of the two on a CPU.
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
    weights = scores.softmax(dim=-1).to(query.dtype)
    return weights if nothing is None else weights.masked_fill(nothing, 0.0)


def _weighted_sum(weights: Tensor, value: Tensor) -> Tensor:
    """weights (B, H, T, S) and value (B, Hkv, S, K) -> (B, H, T, K), with heads grouped as in `attention_weights`."""
    batch, heads, queries, keys = weights.shape
    _, kv_heads, _, value_dim = value.shape
    grouped = weights.reshape(batch * kv_heads, heads // kv_heads * queries, keys)
    return (grouped @ value.reshape(batch * kv_heads, keys, value_dim)).view(batch, heads, queries, value_dim)


def _mended_mask(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> tuple[Tensor | None, Tensor | None]:
    """The mask with the causal rule worked in, and which queries may attend to nothing (None: none can).

    Those queries are shown every key, so that no softmax runs over an empty set and gives NaN, here or in
    the gradient; the caller sets what comes of them to zero.
    """
    if causal and query.shape[2] > 1:
        allowed = causal_mask(query.shape[2], key.shape[2], device=query.device)
        mask = allowed if mask is None else mask & allowed
        if mask is allowed and query.shape[2] <= key.shape[2]:
            return mask, None  # every query sees at least the first key
    if mask is None:
        return None, None
    nothing = ~mask.any(dim=-1, keepdim=True)
    # On a CPU a look is cheap, and spares two passes over the weights. A graph of torch.compile cannot look.
    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(nothing.any()):
        return mask, None
    return mask | nothing, nothing


def _blocks_are_faster(query: Tensor, key: Tensor) -> bool:
    """Whether to train by `attention_by_blocks`. Without a gradient torch's fused kernel is as fast."""
    return (
        query.device.type == "cpu"
        and 64 < query.shape[2] <= LONGEST
        and query.shape[1] == key.shape[1]
        and query.requires_grad
        and not torch.compiler.is_compiling()
    )


def _plain_is_faster(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether matmuls and a softmax beat torch's fused kernel, which on a CPU cannot drop out, whose backward pass
    takes longer up to about 96 keys, and which takes two to four times as long in bfloat16. A single query, as in a
    step of decoding, wants the fewest operations, unless it reads much in bfloat16."""
    if query.device.type != "cpu":
        return False
    if dropout > 0.0:
        return True
    if product_dtype(query) == torch.bfloat16:
        return key.shape[2] <= 512 and (query.shape[2] > 1 or key.numel() > 1 << 15)
    return key.shape[2] <= 96 and query.shape[2] > 1


def _check(query: Tensor, key: Tensor, mask: Tensor | None) -> None:
    if query.shape[1] % key.shape[1]:
        raise InputError(f"{query.shape[1]} query heads cannot share {key.shape[1]} key heads evenly")
    if mask is not None and (mask.dtype != torch.bool or mask.dim() != 4):
        raise InputError(
            f"a mask is boolean and 4-D (batch, heads, query, key), True = may attend; got {mask.dtype} of shape "
            f"{tuple(mask.shape)}: build it with minitransformer.masks"
        )


class ScaledDotProduct(AttentionMap):
    """`attention` as a module, without a will of its own."""

    def forward(self, *qkv_mask: Tensor | None, dropout: float = 0.0, **options: Any) -> Tensor:
        return attention(*qkv_mask, dropout=dropout, **options)  # type: ignore[arg-type]

    def weights(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
        options.pop("dropout", None)  # the map shows the weights before dropout
        return attention_weights(query, key, mask, **options)


class MultiHeadAttention(nn.Module):
    """`num_heads` attentions side by side over learned projections (Vaswani et al. 2017, section 3.2.2).

    With `num_kv_heads` below `num_heads` the heads share keys and values in groups; 1 is multi-query attention
    (Shazeer 2019). `positions` acts inside self-attention (`Rotary`, `ALiBi`, `RelativeBias`). `dropout` falls on
    the attention weights while training. `qk_norm` puts each head's queries and keys through an RMSNorm before
    they are turned (Henry et al. 2020), so that no score grows with the length of the states.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        bias: bool = True,
        positions: AttentionPositions | None = None,
        dropout: float = 0.0,
        qk_norm: bool = False,
    ):
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or d_model % num_heads:
            raise InputError(f"d_model={d_model} is not divisible by num_heads={num_heads}")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise InputError(f"num_heads={num_heads} is not divisible by num_kv_heads={num_kv_heads}")
        if not 0 <= dropout <= 1:
            raise InputError(f"dropout={dropout} must lie between 0 and 1")
        self.d_model, self.num_heads, self.num_kv_heads = d_model, num_heads, num_kv_heads
        self.head_dim = d_model // num_heads
        if positions is not None:
            positions.check_sizes(num_heads, self.head_dim)
        self.positions = positions
        self.dropout = dropout
        # Rows are [query; key; value], each of whole heads: one matmul where all three read the same states.
        self.project_in = nn.Linear(d_model, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=bias)
        self.project_out = nn.Linear(d_model, d_model, bias=bias)
        self.query_norm = RMSNorm(self.head_dim, eps=1e-6) if qk_norm else None
        self.key_norm = RMSNorm(self.head_dim, eps=1e-6) if qk_norm else None
        self.attend = ScaledDotProduct()

    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        memory: Float[Tensor, "batch memory d_model"] | None = None,
        *,
        mask: Bool[Tensor, "#batch #heads #query #key"] | None = None,
        causal: bool = False,
        cache: KVCache | None = None,
        position_ids: Int[Tensor, "#batch query"] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """Self-attention, or attention to `memory` where it is given.

        With a `cache`, self-attention appends its keys and values and attends to all that are cached, and
        cross-attention projects `memory` at the first call only. `position_ids` are the places of the query
        tokens in their sequences, by default counted on from the last in the cache.
        """
        if memory is None:
            heads, key, value, bias = self._project_self(query, cache, position_ids)
        else:
            heads, key, value, bias = *self._project_cross(query, memory, cache), None
        dropout = self.dropout if self.training else 0.0
        states = self.attend(heads, key, value, mask, causal=causal, bias=bias, dropout=dropout)
        return self.project_out(states.transpose(1, 2).flatten(2))

    def _project_self(
        self, states: Tensor, cache: KVCache | None, position_ids: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        heads = self._heads(self.project_in(states))
        query, key, value = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        bias = None
        if self.positions is not None:
            if position_ids is None:
                position_ids = torch.arange(states.shape[1], device=states.device)[None]
                if cache is not None:
                    position_ids = position_ids + cache.next_positions()
            query, key = self.positions.rotate(query, position_ids), self.positions.rotate(key, position_ids)
        if cache is not None:
            key, value = cache.append(key, value, None if self.positions is None else position_ids)
        if self.positions is not None and position_ids is not None:
            key_positions = position_ids if cache is None else cache.positions[:, : cache.length]
            bias = self.positions.bias(position_ids, key_positions)
        return query, key, value, bias

    def _project_cross(self, states: Tensor, memory: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias = self.project_in.weight, self.project_in.bias
        for_query = self.num_heads * self.head_dim
        projected = F.linear(states, weight[:for_query], None if bias is None else bias[:for_query])
        query = self._heads(projected)
        if self.query_norm is not None:
            query = self.query_norm(query)
        if cache is not None and cache.num_seen:
            return query, *cache.filled()
        projected = F.linear(memory, weight[for_query:], None if bias is None else bias[for_query:])
        key, value = self._heads(projected).chunk(2, dim=1)
        if self.key_norm is not None:
            key = self.key_norm(key)
        return query, *((key, value) if cache is None else cache.append(key, value))

    def _heads(self, projected: Tensor) -> Tensor:
        # (B, T, heads · head_dim) -> (B, heads, T, head_dim); einops would say so, at twice the time to compile.
        return projected.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
