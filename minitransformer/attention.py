"""Attention: each query takes a weighted mean of the values, weighted by how well their keys match it."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.attention_maps import AttentionMap, record_attention
from minitransformer.cache import KVCache
from minitransformer.checks import require_number
from minitransformer.dropout import dropout as drop
from minitransformer.errors import InputError
from minitransformer.kernels import enabled, fused_attention, skinny_linear, untouched
from minitransformer.masks import causal_mask, mended_mask
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
    consecutive query heads (grouped queries, Ainslie et al. 2023). The kernels agree with the formula to 1e-5 in
    float32; in bfloat16 on a CPU the formula rounds its scores before the softmax. Raises `InputError` for a mask of
    another rank or type, and for heads that do not divide.
    """
    _check(query, key, mask)
    if enabled("fused_attention", compiled=True) and fused_attention.fits(query, key, dropout=dropout):
        return fused_attention.fused_attention(
            query, key, value, mask, causal=causal, bias=bias, scale=scale, dropout=dropout
        )
    weights = drop(attention_weights(query, key, mask, causal=causal, bias=bias, scale=scale), dropout)
    means = _grouped(weights, key) @ rearrange(value, "batch kv_heads key value_dim -> (batch kv_heads) key value_dim")
    return _ungrouped(means, query)


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
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    keys = rearrange(key, "batch kv_heads key head_dim -> (batch kv_heads) key head_dim")
    # scale * (query @ keys.mT): beta=0 ignores the first argument.
    products = torch.baddbmm(query.new_zeros(()), _grouped(query, key), keys.mT, beta=0, alpha=scale)
    scores = _ungrouped(products, query)
    if bias is not None:
        scores = scores + bias
    if causal and query.shape[2] > 1:
        allowed = causal_mask(query.shape[2], key.shape[2], device=query.device)
        mask = allowed if mask is None else mask & allowed
    if mask is None:
        return scores.softmax(dim=-1).to(query.dtype)
    mask, nothing = mended_mask(mask)
    # Added, not filled in: the gradient of a sum with a constant costs nothing.
    scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
    weights = scores.softmax(dim=-1).to(query.dtype)
    return weights if nothing is None else weights.masked_fill(nothing, 0.0)


def _grouped(heads: Tensor, key: Tensor) -> Tensor:
    """The query heads that share a key head, stacked along the query axis: one product serves all of them."""
    return rearrange(
        heads, "batch (kv_heads group) query last -> (batch kv_heads) (group query) last", kv_heads=key.shape[1]
    )


def _ungrouped(stacked: Tensor, query: Tensor) -> Tensor:
    """The inverse: (batch, heads, query, last)."""
    return stacked.view(*query.shape[:3], stacked.shape[-1])


def _check(query: Tensor, key: Tensor, mask: Tensor | None) -> None:
    if query.shape[1] % key.shape[1]:
        raise InputError(f"{query.shape[1]} query heads cannot share {key.shape[1]} key heads evenly")
    if mask is not None and (mask.dtype != torch.bool or mask.dim() != 4):
        raise InputError(
            f"a mask is boolean and 4-D (batch, heads, query, key), True = may attend; got {mask.dtype} of shape "
            f"{tuple(mask.shape)}: build it with minitransformer.masks"
        )


class ScaledDotProduct(AttentionMap):
    """`attention` as a module, so that hooks see its queries, keys and values."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
    ) -> Float[Tensor, "batch heads query value_dim"]:
        return attention(query, key, value, mask, **options)

    def weights(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
    ) -> Float[Tensor, "batch heads query key"]:
        """The weights before dropout."""
        options.pop("dropout", None)
        return attention_weights(query, key, mask, **options)


class MultiHeadAttention(nn.Module):
    """`num_heads` attentions side by side over learned projections (Vaswani et al. 2017, section 3.2.2).

    With `num_kv_heads` below `num_heads` the heads share keys and values in groups; 1 is multi-query attention
    (Shazeer 2019). `positions` acts inside self-attention (`Rotary`, `ALiBi`, `RelativeBias`). `dropout` falls on
    the attention weights while this module itself is in training mode, as in `torch.nn.MultiheadAttention`.
    `qk_norm` puts each head's queries and keys through an RMSNorm before they are turned (Henry et al. 2020), so that
    no score grows with the length of the states. `head_dim` is d_model / num_heads unless given.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        positions: AttentionPositions | None = None,
        dropout: float = 0.0,
        qk_norm: bool = False,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        require_number("head_dim", head_dim, at_least=1)
        if num_heads < 1 or (head_dim is None and d_model % num_heads):
            raise InputError(f"d_model={d_model} is not divisible by num_heads={num_heads}")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise InputError(f"num_heads={num_heads} is not divisible by num_kv_heads={num_kv_heads}")
        require_number("dropout", dropout, at_least=0, at_most=1)
        self.d_model, self.num_heads, self.num_kv_heads = d_model, num_heads, num_kv_heads
        self.head_dim = d_model // num_heads if head_dim is None else head_dim
        if positions is not None:
            positions.check_sizes(num_heads, self.head_dim)
        self.positions = positions
        self.dropout = dropout
        # Rows are [query; key; value], each of whole heads: one matmul where all three read the same states.
        self.project_in = nn.Linear(d_model, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=bias)
        self.project_out = nn.Linear(num_heads * self.head_dim, d_model, bias=bias)
        self.query_norm = RMSNorm(self.head_dim, eps=norm_eps) if qk_norm else None
        self.key_norm = RMSNorm(self.head_dim, eps=norm_eps) if qk_norm else None
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
        cross-attention projects `memory` at the first call only. `position_ids` are the positions of the query
        tokens in their sequences; by default they follow the last position in the cache.
        """
        if memory is None:
            heads, key, value, bias = self._project_self(query, cache, position_ids)
        else:
            heads, key, value, bias = *self._project_cross(query, memory, cache), None
        dropout = self.dropout if self.training else 0.0
        states = self.attend(heads, key, value, mask, causal=causal, bias=bias, dropout=dropout)
        states = rearrange(states, "batch heads query head_dim -> batch query (heads head_dim)")
        return skinny_linear.through(self.project_out, states)

    def _project_self(
        self, states: Tensor, cache: KVCache | None, position_ids: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        heads = self._heads(skinny_linear.through(self.project_in, states))
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
        queries = self.num_heads * self.head_dim
        query = self._heads(self._project(states, slice(queries)))
        if self.query_norm is not None:
            query = self.query_norm(query)
        if cache is not None and cache.num_seen:
            return query, *cache.filled()
        key, value = self._heads(self._project(memory, slice(queries, None))).chunk(2, dim=1)
        if self.key_norm is not None:
            key = self.key_norm(key)
        return query, *((key, value) if cache is None else cache.append(key, value))

    def _project(self, states: Tensor, outputs: slice) -> Tensor:
        """Some of the outputs of `project_in`, without computing the others unless it has been replaced or hooked."""
        layer = self.project_in
        if not untouched(layer, nn.Linear):
            return layer(states)[..., outputs]
        return skinny_linear.linear(states, layer.weight[outputs], None if layer.bias is None else layer.bias[outputs])

    def _heads(self, projected: Tensor) -> Tensor:
        return rearrange(projected, "batch time (heads head_dim) -> batch heads time head_dim", head_dim=self.head_dim)
