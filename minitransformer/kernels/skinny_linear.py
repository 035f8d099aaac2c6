"""A linear layer over few rows, by all cores of a CPU.

A step of decoding reads every weight for one row or a few, so that memory sets its speed. `F.linear` over a few rows
runs on one core of an AMD processor, and with 4 to 12 rows multiplies slowly on an Intel one. The same product as a
batch of row blocks of the weight, y_b = x W_bᵀ where W_b is a view, is dealt out to all cores. Speeds up generation by
models of GPT-2's size: a step of 12 x 768 is 1.37 times as fast for 8 rows on two cores of an Intel Xeon.

The choice is made in one place, `_blocks`: by rows, size of the weight and make of the processor.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minitransformer.kernels import enabled, untouched
from minitransformer.processor import on_amd

_MOST_ROWS = 32
_FORWARD = nn.Linear.forward


def smallest() -> int:
    """How many numbers the smallest weight has that gains. A smaller one stays in a core's own cache."""
    return 1 << 19 if on_amd() else (1 << 20) + 1


def through(layer: nn.Module, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
    """`layer(x)`. A layer with a hook, a `forward` of its own or another class, as a parametrisation makes it, is
    called."""
    weight = layer._parameters.get("weight")
    if weight is None or weight.numel() < smallest() or torch.is_grad_enabled():
        return layer(x)
    if not untouched(layer, nn.Linear) or nn.Linear.forward is not _FORWARD:
        return layer(x)
    return linear(x, layer.weight, layer.bias)  # type: ignore[arg-type]


def linear(
    x: Float[Tensor, "*batch in_features"],
    weight: Float[Tensor, "out_features in_features"],
    bias: Float[Tensor, " out_features"] | None = None,
) -> Float[Tensor, "*batch out_features"]:
    """`F.linear(x, weight, bias)`."""
    if weight.numel() < smallest() or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    if not enabled("skinny_linear") or not (blocks := _blocks(x, weight)):
        return F.linear(x, weight, bias)
    rows, whole = x.reshape(-1, x.shape[-1]), len(weight) // blocks * blocks
    batch = rows.expand(blocks, *rows.shape), weight[:whole].view(blocks, -1, weight.shape[1]).mT
    parts = torch.bmm(*batch) if bias is None else torch.baddbmm(bias[:whole].view(blocks, 1, -1), *batch)
    outputs = parts.transpose(0, 1).reshape(len(rows), whole)
    if whole < len(weight):
        rest = F.linear(rows, weight[whole:], None if bias is None else bias[whole:])
        outputs = torch.cat([outputs, rest], dim=1)
    return outputs.view(*x.shape[:-1], -1)


def _blocks(x: Tensor, weight: Tensor) -> int:
    """Into how many blocks of rows the weight is cut; 0 where `F.linear` is as fast."""
    fewest_rows = 1 if on_amd() else 4  # on AMD, MKL multiplies few rows on one core
    if not fewest_rows <= (rows := x.numel() // x.shape[-1]) <= _MOST_ROWS:
        return 0
    plain = type(x) is Tensor and type(weight) in (Tensor, nn.Parameter) and weight.is_contiguous()
    if not plain or x.dtype != torch.float32 or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return 0  # bfloat16 does not gain
    if torch.get_num_threads() == 1 or torch.is_autocast_enabled("cpu"):
        return 0
    return 8 if rows < 4 else 16 if rows <= 12 else 4
