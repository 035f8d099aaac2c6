"""One token through a GPT without its modules.

A step of decoding is a hundred operations of a few microseconds each, and to call modules takes as long again. Here
the same operations stand in a row. They are used where nobody can tell the difference: in evaluation mode, while no
module has hooks, for models made of this library's own parts.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from minitransformer.attention import MultiHeadAttention, ScaledDotProduct, attention
from minitransformer.blocks import EncoderBlock, FeedForward, Residual, Stack
from minitransformer.cache import KVCache
from minitransformer.dropout import Dropout
from minitransformer.norms import RMSNorm
from minitransformer.positions import LearnedPositions, Rotary, turned

_KNOWN = (
    *(EncoderBlock, FeedForward, LearnedPositions, MultiHeadAttention, Residual, Rotary, ScaledDotProduct, Stack),
    *(Dropout, nn.Embedding, nn.LayerNorm, nn.Linear, nn.ModuleList, RMSNorm),
)


class FlatStep:
    """The weights of a GPT, laid out for `__call__`: views, which later changes of the weights in place reach."""

    def __init__(self, embedding: Tensor, positions: Tensor | None, blocks: Sequence[Any], final_norm: nn.Module):
        self.embedding, self.positions = embedding, positions
        self.layers = [_Layer(block) for block in blocks]
        self.rotary: Rotary | None = blocks[0].attention.positions
        self.final_norm = _norm(final_norm)
        self.hooks: list[dict[int, Any]] = [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]

    @classmethod
    def of(cls, model: Any) -> "FlatStep | None":
        """None for a model with other parts than those that are known here."""
        parts = list(model.modules())[1:]
        if any(type(part) not in _KNOWN for part in parts):
            return None
        positions = None if model.positions is None else model.positions.embedding.weight
        flat = cls(model.embedding.weight, positions, list(model.decoder.layers), model.decoder.final_norm)
        for part in (model, *parts):
            flat.hooks += [part._forward_hooks, part._forward_pre_hooks]
        return flat

    def watched(self) -> bool:
        """Whether hooks wait for the modules to be called."""
        return any(self.hooks)

    def __call__(self, ids: Tensor, position_ids: Tensor, mask: Tensor | None, caches: Sequence[KVCache]) -> Tensor:
        """ids (B,), position_ids (B or 1, 1), mask (B, 1, 1, S) -> states (B, D)."""
        states = F.embedding(ids, self.embedding)
        if self.positions is not None:
            states = states + F.embedding(position_ids[:, 0], self.positions)
        turns = None if self.rotary is None else self.rotary.turns(position_ids, states.dtype)
        for layer, cache in zip(self.layers, caches, strict=True):
            states = layer(states, turns, mask, cache)
        return self.final_norm(states)


class _Layer:
    """The block's two sublayers on states (B, D)."""

    def __init__(self, block: EncoderBlock):
        mha, inner = block.attention, block.feed_forward
        self.num_heads, self.num_kv_heads, self.head_dim = mha.num_heads, mha.num_kv_heads, mha.head_dim
        self.norms = _norm(block.attention_residual.norm), _norm(block.feed_forward_residual.norm)
        self.project_in, self.project_out = _linear(mha.project_in), _linear(mha.project_out)
        self.query_norm = None if mha.query_norm is None else _norm(mha.query_norm)
        self.key_norm = None if mha.key_norm is None else _norm(mha.key_norm)
        self.expand, self.contract = _linear(inner.expand), _linear(inner.contract)
        self.activation, self.gated = inner.activation, inner.gated

    def __call__(
        self, states: Tensor, turns: tuple[Tensor, Tensor] | None, mask: Tensor | None, cache: KVCache
    ) -> Tensor:
        batch, queries, keys = len(states), self.num_heads, self.num_kv_heads
        heads = self.project_in(self.norms[0](states)).view(batch, queries + 2 * keys, 1, self.head_dim)
        query, pairs = heads.narrow(1, 0, queries), heads.narrow(1, queries, 2 * keys)
        if turns is not None or self.query_norm is not None:
            key = pairs.narrow(1, 0, keys)
            if self.query_norm is not None and self.key_norm is not None:
                query, key = self.query_norm(query), self.key_norm(key)
            if turns is not None:
                query, key = turned(query, *turns), turned(key, *turns)
            pairs = torch.cat([key, pairs.narrow(1, keys, keys)], dim=1)
        key, value = cache.append_pairs(pairs)
        if mask is None and queries == keys and query.dtype == torch.float32:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = attention(query, key, value, mask)
        states = states + self.project_out(mixed.reshape(batch, -1))
        hidden = self.expand(self.norms[1](states))
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = self.activation(gate) * hidden
        else:
            hidden = self.activation(hidden)
        return states + self.contract(hidden)


def _linear(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight, bias = layer.weight.t(), layer.bias
    return (lambda x: torch.mm(x, weight)) if bias is None else (lambda x: torch.addmm(bias, x, weight))


def _norm(layer: Any) -> Callable[[Tensor], Tensor]:
    if isinstance(layer, nn.LayerNorm):
        return partial(_layer_norm, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
    return partial(F.rms_norm, normalized_shape=layer.normalized_shape, weight=layer.weight, eps=layer.eps)


def _layer_norm(shape: tuple[int, ...], weight: Tensor, bias: Tensor | None, eps: float, x: Tensor) -> Tensor:
    return torch.layer_norm(x, shape, weight, bias, eps)
