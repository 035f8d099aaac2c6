"""Masks: who may attend to whom.

Every mask is boolean, 4-D and True where a query *may* attend to a key, so masks combine with `&`:
`causal_mask(5) & padding_mask(valid)`. The four axes are (batch or 1, heads or 1, query or 1, key).
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minitransformer.errors import InputError


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


def padding_mask(valid: Bool[Tensor, "batch key"]) -> Bool[Tensor, "batch 1 1 key"]:
    """No query sees a key that is not `valid`."""
    return valid[:, None, None, :]


def document_mask(document_ids: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch 1 time time"]:
    """Tokens see their own document only, for sequences packed from several documents."""
    return (document_ids[:, :, None] == document_ids[:, None, :])[:, None]


def _aligned_positions(
    query_length: int, key_length: int | None, device: torch.device | str | None
) -> tuple[Tensor, Tensor]:
    """Positions on one axis, where the last query stands at the last key: (1, 1, T, 1) and (1, 1, 1, S)."""
    key_length = query_length if key_length is None else key_length
    if query_length < 0 or key_length < 0:
        raise InputError(f"lengths cannot be negative: query_length={query_length}, key_length={key_length}")
    keys = torch.arange(key_length, device=device)
    queries = torch.arange(query_length, device=device) + (key_length - query_length)
    return queries[None, None, :, None], keys[None, None, None, :]
