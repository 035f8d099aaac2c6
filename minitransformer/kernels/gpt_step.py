"""One token through a GPT without calling its modules.

A step of decoding is a hundred operations of a few microseconds each, and calling modules takes as long again. Here the
same operations stand in a row. Speeds up generation by small models: `greedy` and `sample` of a GPT, the Completer.

Modules can be replaced, hooked, switched and given options at any time. So the kernel knows by name all that its
modules hold, and steps aside for a module with anything else; before each step it compares what they hold with what
they held when it was made; and it reads the weights from the modules. A comparison takes up to a tenth of a step: its
memory is far apart. So `greedy` and `sample`, between whose steps nothing else runs, take one for the whole call.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from minitransformer.attention import MultiHeadAttention, ScaledDotProduct, attention
from minitransformer.blocks import EncoderBlock, FeedForward, Residual, Stack
from minitransformer.dropout import Dropout
from minitransformer.int8 import Int8Linear
from minitransformer.kernels import current_call, skinny_linear, untouched
from minitransformer.norms import RMSNorm
from minitransformer.positions import LearnedPositions, Rotary

_KNOWN: dict[type[nn.Module], tuple[set[str], set[str]]] = {
    kind: (set(read.split()), set(others.split()))
    for kind, (read, others) in {
        Dropout: ("training", "p inplace"),
        EncoderBlock: ("", "causal attention attention_residual feed_forward feed_forward_residual"),
        FeedForward: ("gated activation", "expand contract dropout"),
        LearnedPositions: ("", "embedding"),
        MultiHeadAttention: (
            "training num_heads num_kv_heads head_dim",
            "d_model dropout positions project_in project_out query_norm key_norm attend",
        ),
        RMSNorm: ("normalized_shape eps", "elementwise_affine weight"),
        Residual: ("pre_norm", "norm dropout"),
        Rotary: ("head_dim base scaling", ""),
        ScaledDotProduct: ("", ""),
        Stack: ("", "layers final_norm"),
        nn.Embedding: (
            "max_norm",
            "num_embeddings embedding_dim padding_idx norm_type scale_grad_by_freq sparse weight",
        ),
        nn.LayerNorm: ("normalized_shape eps", "elementwise_affine weight bias"),
        nn.Linear: ("", "in_features out_features weight bias"),
        Int8Linear: ("", "in_features out_features codes scale bias"),
    }.items()
}
"""What a module of each class holds: the options that decide what a step computes, and everything else."""
_FORWARDS = {kind: kind.forward for kind in _KNOWN}
_BOOKKEEPING = set(vars(nn.Module()))


class _UnknownPartError(Exception):
    """A module that may compute something that the kernel does not."""


class _Parts:
    """The modules that the kernel passes over, and what each of them held at first."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[Any] = [model]
        self.views: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        self.compared_in: object | None = None

    def take(self, module: Any, *kinds: type[nn.Module]) -> Any:
        kind = type(module)
        if kind not in kinds or kind.forward is not _FORWARDS[kind] or module.training:
            raise _UnknownPartError
        held = {*vars(module), *module._parameters, *module._buffers, *module._modules} - _BOOKKEEPING
        read, others = _KNOWN[kind]
        if held != (read | others) - {"training"} or held & {"weight", "bias"} != module._parameters.keys():
            raise _UnknownPartError
        self.modules.append(module)
        return module

    def remember(self) -> None:
        """All that a step compares. As flat lists, since a step of a small model takes a few hundred microseconds."""
        self.hooks = [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
        # A `forward` of its own, or a weight that is no parameter any more, is one thing more that a module holds.
        self.namespaces: list[dict[str, Any]] = []
        places: list[tuple[dict[str, Any], str]] = []
        for module in self.modules:
            own, children = vars(module), module._modules
            if module is not self.modules[0]:  # the model itself is not called
                self.hooks += [module._forward_hooks, module._forward_pre_hooks]
            self.namespaces += [own, children] if isinstance(module, nn.ModuleList) else [own]
            places += [(own, name) for name in _KNOWN.get(type(module), (set(), set()))[0]]
            places += [(children, name) for name in children]
        self.owners, self.names = [owner for owner, _ in places], [name for _, name in places]
        self.before = self.now()
        self.view_weights()

    def now(self) -> tuple[list[Any], ...]:
        """The class of each module, how many things it holds, its submodules and the options that a step follows."""
        return (
            list(map(type, self.modules)),
            list(map(len, self.namespaces)),
            list(map(dict.get, self.owners, self.names)),
        )

    def view_weights(self) -> None:
        """Transposed views of small weights, which may have been replaced by others of the same name."""
        for own, view in self.views:
            view["weight"] = own["weight"].t()

    def unchanged(self) -> bool:
        if (call := current_call()) is not None and call is self.compared_in:
            return True
        same = not any(self.hooks) and self.now() == self.before
        if same:
            self.view_weights()
        # The output is called as a module, and hooks on it may change the others.
        self.compared_in = call if same and untouched(self.modules[0].output, nn.Linear) else None
        return same


@runtime_checkable
class Appendable(Protocol):
    """What the kernel asks of a `KVCache`."""

    def append_pairs(self, pairs: Tensor) -> tuple[Tensor, Tensor]: ...


class FlatStep:
    """The step of one model."""

    def __init__(self, model: Any):
        self.parts = parts = _Parts(model)
        self.embedding = _table(model.embedding, parts)
        self.positions = (
            None if model.positions is None else _table(parts.take(model.positions, LearnedPositions).embedding, parts)
        )
        parts.take(model.dropout, Dropout)
        stack = parts.take(model.decoder, Stack)
        self.layers = [_Layer(parts.take(block, EncoderBlock), parts) for block in stack.layers]
        self.final_norm = _norm(stack.final_norm, parts)
        schemes = {layer.positions for layer in self.layers}
        if len(schemes) != 1 or type(stack.layers) is not nn.ModuleList:
            raise _UnknownPartError
        self.rotary = schemes.pop()
        if self.rotary is not None:
            parts.take(self.rotary, Rotary)
        parts.modules.append(stack.layers)
        parts.remember()

    @classmethod
    def of(cls, model: Any) -> "FlatStep | None":
        """None for a model with a part that is not as this library makes it."""
        try:
            return cls(model)
        except _UnknownPartError:
            return None

    def __call__(self, ids: Tensor, position_ids: Tensor, mask: Tensor | None, caches: Sequence[Appendable]) -> Tensor:
        """ids (B,), position_ids (B or 1, 1), mask (B, 1, 1, S) -> states (B, D)."""
        states = self.embedding(ids)
        if self.positions is not None:
            states = states + self.positions(position_ids.select(1, 0))
        turns = None
        if self.rotary is not None:
            cos, sin = self.rotary.turns(position_ids, states.dtype)
            turns = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        for layer, cache in zip(self.layers, caches, strict=True):
            states = layer(states, turns, mask, cache)
        return self.final_norm(states)


class _Layer:
    """The block's two sublayers on states (B, D)."""

    def __init__(self, block: EncoderBlock, parts: _Parts):
        mha = parts.take(block.attention, MultiHeadAttention)
        inner = parts.take(block.feed_forward, FeedForward)
        residuals = [parts.take(each, Residual) for each in (block.attention_residual, block.feed_forward_residual)]
        normed = [mha.query_norm is not None, mha.key_norm is not None]
        if not all(residual.pre_norm for residual in residuals) or normed[0] != normed[1]:
            raise _UnknownPartError
        parts.take(mha.attend, ScaledDotProduct)
        for dropout in (inner.dropout, *(residual.dropout for residual in residuals)):
            parts.take(dropout, Dropout)
        self.positions: Rotary | None = mha.positions
        self.num_heads, self.num_kv_heads, self.head_dim = mha.num_heads, mha.num_kv_heads, mha.head_dim
        self.norms = [_norm(residual.norm, parts) for residual in residuals]
        self.project_in, self.project_out = _linear(mha.project_in, parts), _linear(mha.project_out, parts)
        self.qk_norms = [_norm(norm, parts) for norm in (mha.query_norm, mha.key_norm)] if all(normed) else None
        self.expand, self.contract = _linear(inner.expand, parts), _linear(inner.contract, parts)
        self.activation, self.gated = inner.activation, inner.gated

    def __call__(
        self, states: Tensor, turns: tuple[Tensor, Tensor] | None, mask: Tensor | None, cache: Appendable
    ) -> Tensor:
        queries, keys = self.num_heads, self.num_kv_heads
        heads = self.project_in(self.norms[0](states)).view(-1, queries + 2 * keys, 1, self.head_dim)
        if self.qk_norms is not None:
            query, key, value = heads.split([queries, keys, keys], dim=1)
            heads = torch.cat([self.qk_norms[0](query), self.qk_norms[1](key), value], dim=1)
        if turns is not None:
            heads = heads.to(turns[0].dtype)
            _turn(heads.narrow(1, 0, queries + keys), *turns)
        query, pairs = heads.split_with_sizes([queries, 2 * keys], 1)  # `split` takes twice as long
        key, value = cache.append_pairs(pairs)
        if mask is None and query.dtype == torch.float32:
            mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=queries != keys)
        else:
            mixed = attention(query, key, value, mask)
        states = states + self.project_out(mixed.flatten(1))
        hidden = self.expand(self.norms[1](states))
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = self.activation(gate) * hidden
        else:
            hidden = self.activation(hidden)
        return states + self.contract(hidden)


def _turn(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """`turned` in place, in three operations instead of eight: (x_1, x_2) cos + (x_2, x_1) (-sin, sin)."""
    swapped = heads.roll(heads.shape[-1] // 2, -1)
    heads.mul_(cos).addcmul_(swapped, sin)


# A weight may be replaced at any time: what is kept is where it stands.


def _table(layer: Any, parts: _Parts) -> Callable[[Tensor], Tensor]:
    own = parts.take(layer, nn.Embedding)._parameters
    if layer.max_norm is not None:
        raise _UnknownPartError
    return lambda ids: F.embedding(ids, own["weight"])


def _linear(layer: Any, parts: _Parts) -> Callable[[Tensor], Tensor]:
    own = parts.take(layer, nn.Linear, Int8Linear)._parameters
    if isinstance(layer, Int8Linear):
        return layer.forward
    if layer.weight.numel() >= skinny_linear.smallest():
        return lambda x: skinny_linear.linear(x, own["weight"], own["bias"])
    view: dict[str, Tensor] = {}
    parts.views.append((own, view))

    def small(x: Tensor) -> Tensor:
        """`F.linear` on a view that is kept: to make one takes an eighth of so small a product."""
        bias = own["bias"]
        return torch.mm(x, view["weight"]) if bias is None else torch.addmm(bias, x, view["weight"])

    return small


def _norm(layer: Any, parts: _Parts) -> Callable[[Tensor], Tensor]:
    own, shape, eps = parts.take(layer, nn.LayerNorm, RMSNorm)._parameters, layer.normalized_shape, layer.eps
    if isinstance(layer, nn.LayerNorm):
        return lambda x: torch.layer_norm(x, shape, own["weight"], own["bias"], eps)
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    smallest, share = torch.tensor(eps, dtype=dtype, device=layer.weight.device), 1 / shape[0]

    def rms_norm(x: Tensor) -> Tensor:
        """`RMSNorm` in five operations, where torch takes a dozen."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
        scale = torch.addcmul(smallest, length, length, value=share).rsqrt_()
        return (x * scale * own["weight"]).to(x.dtype)

    return rms_norm
