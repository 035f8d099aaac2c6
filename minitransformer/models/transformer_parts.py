"""What the models made of Transformer blocks share: the checks of their sizes, and the parts a configuration names."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.masks import document_mask, padding_mask, window_mask
from minitransformer.models.base import Ids, Valid
from minitransformer.models.config import Config
from minitransformer.norms import make_norm
from minitransformer.positions import ALiBi, AttentionPositions, RelativeBias, Rotary, token_positions


def check_block_fields(config: Any) -> None:
    """Check the fields that describe blocks. Raises `InputError`."""
    c: Config = config
    c.require_positive("d_model", "num_heads", "num_kv_heads", "d_ff", "norm_eps")
    if getattr(config, "head_dim", None) is None:
        c.require_multiple("d_model", "num_heads")
    if config.num_kv_heads is not None:
        c.require_multiple("num_heads", "num_kv_heads")
    c.require_fraction("attention_dropout")
    paired = {"sinusoidal": config.d_model, "rotary": head_size(config)}.get(config.positions, 0)
    if paired % 2:
        raise InputError(
            f"{config.positions} positions pair coordinates: d_model={config.d_model} with "
            f"num_heads={config.num_heads} leaves an odd number, {paired}"
        )


def head_size(config: Any) -> int:
    """The `head_dim` of the configuration, if it has one, or d_model / num_heads."""
    return getattr(config, "head_dim", None) or config.d_model // config.num_heads


def block_arguments(config: Any) -> dict[str, Any]:
    """The arguments of a block that are fields of the configuration; `d_ff` is 4 · `d_model` unless given."""
    sizes = ("d_model", "num_heads", "num_kv_heads", "head_dim")
    options = ("pre_norm", "norm", "norm_eps", "activation", "dropout", "attention_dropout", "bias", "qk_norm")
    names = (*sizes, *options, "attention_bias")
    given = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return given | {"d_ff": config.d_ff or 4 * config.d_model}


def attention_positions(config: Any, *, bidirectional: bool) -> AttentionPositions | None:
    """The scheme `config.positions` if it acts inside attention."""
    if config.positions == "rotary":
        options = {"base": "rope_theta", "scaling": "rope_scaling"}
        given = {name: getattr(config, field) for name, field in options.items() if hasattr(config, field)}
        return Rotary(head_size(config), **given)
    if config.positions == "alibi":
        return ALiBi(config.num_heads)
    if config.positions == "relative":
        return RelativeBias(config.num_heads, bidirectional=bidirectional)
    return None


def final_norm(config: Any) -> nn.Module:
    return make_norm(config.norm, config.d_model, eps=config.norm_eps, bias=config.bias)


def padding_and_positions(
    ids: Ids, valid: Valid | None, document_ids: Ids | None = None, *, window: int | None = None
) -> tuple[Bool[Tensor, "#batch 1 #time time"] | None, Valid, Int[Tensor, "#batch time"]]:
    """The mask of padding, of other documents and of tokens before the `window`, which tokens are real, and their
    positions in their documents.

    Unpadded rows need no mask, without which attention is faster, and share one row of positions.
    """
    real = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid
    mask: Tensor | None = None
    if document_ids is not None:
        mask, position_ids = padding_mask(real) & document_mask(document_ids), token_positions(real, document_ids)
    elif valid is None:
        position_ids = torch.arange(ids.shape[1], device=ids.device)[None]
    else:
        mask, position_ids = padding_mask(valid), token_positions(valid)
    if window is not None:
        within = window_mask(position_ids, window)
        mask = within if mask is None else mask & within
    return mask, real, position_ids


def require_length(position_ids: Int[Tensor, "#batch time"], max_length: int, *, packed: bool) -> None:
    """`InputError` for rows of more than `max_length` tokens; for `packed` rows, if one of their documents has more."""
    length = position_ids.shape[1]
    if packed and length > max_length:
        if torch.compiler.is_compiling() or not len(position_ids):
            return  # a graph cannot depend on the values
        length = int(position_ids.max()) + 1
    if length > max_length:
        raise InputError(f"{length} tokens are more than the model's max_length={max_length}")


def left_padded(ids: Ids, valid: Valid) -> tuple[Int[Tensor, "batch width"], Bool[Tensor, "batch width"] | None]:
    """The real tokens of each row moved to its end, in as few columns as hold them; None: no row is padded."""
    counts = valid.sum(dim=1)
    width = int(counts.max()) if len(counts) else ids.shape[1]
    order = valid.long().argsort(dim=1, stable=True)  # padding first, then the tokens as they stood
    ids = ids.gather(1, order)[:, ids.shape[1] - width :]
    valid = torch.arange(width, device=ids.device) >= width - counts[:, None]
    return ids, None if bool(valid.all()) else valid
