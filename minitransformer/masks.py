"""Masks: who may attend to whom.

Every mask is boolean, 4-D and True where a query *may* attend to a key, so masks combine with `&`:
`causal_mask(5) & padding_mask(valid)`. The four axes are (batch or 1, heads or 1, query or 1, key).
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.kernels import transformed


def causal_mask(
    query_length: int, key_length: int | None = None, *, device: torch.device | str | None = None
) -> Bool[Tensor, "1 1 query key"]:
    """No query sees a later key. The last query is aligned with the last key ("bottom right"):

    query i of T sees keys 0 .. S - T + i. So the one query of a cached step (T = 1) sees all S keys,
    and when T > S the first T - S queries see nothing.
    """
    queries, keys = _aligned_positions(query_length, key_length, device)
    return keys <= queries


def sliding_window_mask(
    query_length: int, key_length: int, window: int, *, device: torch.device | str | None = None
) -> Bool[Tensor, "1 1 query key"]:
    """A causal mask in which a query sees itself and the `window - 1` keys before it (Beltagy et al. 2020)."""
    if window < 1:
        raise InputError(f"window={window} must be at least 1: a query sees itself at least")
    queries, keys = _aligned_positions(query_length, key_length, device)
    return (keys <= queries) & (keys > queries - window)


def window_mask(position_ids: Int[Tensor, "batch time"], window: int) -> Bool[Tensor, "batch 1 time time"]:
    """No query sees a key that stands `window` positions before it or more; with a causal mask, the
    `sliding_window_mask` of padded rows."""
    queries = rearrange(position_ids, "batch query -> batch 1 query 1")
    keys = rearrange(position_ids, "batch key -> batch 1 1 key")
    return queries - keys < window


def padding_mask(valid: Bool[Tensor, "batch key"]) -> Bool[Tensor, "batch 1 1 key"]:
    """No query sees a key that is not `valid`."""
    return rearrange(valid, "batch key -> batch 1 1 key")


def require_bool(**given: Tensor | None) -> None:
    """`InputError` for a tensor that is not bool, whose 0 and 1 would be taken for places."""
    for name, tensor in given.items():
        if tensor is not None and not isinstance(tensor, Tensor):
            raise InputError(f"{name} must be a tensor of bool, True = real; it is a {type(tensor).__name__}")
        if tensor is not None and tensor.dtype != torch.bool:
            raise InputError(f"{name} must be bool, True = real; it is {tensor.dtype}: {name}.bool()")


def document_mask(document_ids: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch 1 time time"]:
    """Tokens see their own document only, for sequences packed from several documents."""
    queries = rearrange(document_ids, "batch query -> batch 1 query 1")
    keys = rearrange(document_ids, "batch key -> batch 1 1 key")
    return queries == keys


def mended_mask(
    mask: Bool[Tensor, "batch heads query key"],
) -> tuple[Bool[Tensor, "batch heads query key"], Bool[Tensor, "batch heads query 1"] | None]:
    """The mask with every key shown to the queries that may attend to nothing, and which these are (None: none are).

    A softmax over an empty set would be NaN, in the gradient too. The caller sets what those queries read to zero.
    """
    nothing = ~mask.any(dim=-1, keepdim=True)
    # On a CPU a look is cheap, and spares passes over the weights. Compiled and transformed operations cannot look.
    looks = mask.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed()
    return (mask, None) if looks and not bool(nothing.any()) else (mask | nothing, nothing)


def _aligned_positions(
    query_length: int, key_length: int | None, device: torch.device | str | None
) -> tuple[Tensor, Tensor]:
    """Positions on one axis, where the last query stands at the last key: (1, 1, T, 1) and (1, 1, 1, S)."""
    key_length = query_length if key_length is None else key_length
    if query_length < 0 or key_length < 0:
        raise InputError(f"lengths cannot be negative: query_length={query_length}, key_length={key_length}")
    keys = torch.arange(key_length, device=device)
    queries = torch.arange(query_length, device=device) + (key_length - query_length)
    return rearrange(queries, "query -> 1 1 query 1"), rearrange(keys, "key -> 1 1 1 key")
