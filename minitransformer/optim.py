"""Optimizers: AdamW, Muon, and which parameters they change how."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim._muon import _adjust_lr

from minitransformer.blocks import Stack
from minitransformer.errors import InputError
from minitransformer.learning_rate import set_learning_rate
from minitransformer.processor import multiplies_bfloat16


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    exclude: Collection[nn.Parameter] = (),
    scales: Mapping[nn.Parameter, float] | None = None,
) -> list[dict[str, Any]]:
    """The parameters of `model` that are not in `exclude`, in two groups: matrices, which get weight decay, and norms,
    biases and embeddings, which do not.

    With `scales` of the learning rate, such as `layer_scales`, there is a pair of groups for each scale, which
    `set_learning_rate` applies.
    """
    left_out, decayed = set(exclude), _decayed(model)
    kept = [p for p in model.parameters() if p.requires_grad and p not in set(decayed)]
    groups = []
    for parameters, decay in ((decayed, weight_decay), (kept, 0.0)):
        by_scale: dict[float, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            if parameter not in left_out:
                by_scale[1.0 if scales is None else scales[parameter]].append(parameter)
        groups += [{"params": some, "weight_decay": decay, "lr_scale": scale} for scale, some in by_scale.items()]
    return groups


def layer_heights(model: nn.Module) -> dict[nn.Parameter, int]:
    """The height of each parameter: 0 below the blocks, such as embeddings, 1 to n in block 1 to n, n + 1 above.

    A block that is used in several layers counts as the last of them. Raises `InputError` for a model without exactly
    one stack of blocks.
    """
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    if len(stacks) != 1:
        raise InputError(f"layer heights need one stack of blocks, and a {type(model).__name__} has {len(stacks)}")
    layers = stacks[0].layers
    in_blocks = {p: place for place, layer in enumerate(layers, start=1) for p in layer.parameters()}
    heights, outside = {}, 0
    for parameter in model.parameters():  # in the order of the model's parts
        if parameter in in_blocks:
            outside = len(layers) + 1
        heights[parameter] = in_blocks.get(parameter, outside)
    return heights


def layer_scales(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Layer-wise decay of the learning rate (Howard and Ruder 2018; Clark et al. 2020): 1 above the blocks, ``decay``
    for the last block, its square for the block before, and so on down to the embeddings."""
    heights = layer_heights(model)
    top = max(heights.values())
    return {parameter: decay ** (top - height) for parameter, height in heights.items()}


def _decayed(model: nn.Module) -> list[nn.Parameter]:
    embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return [p for p in model.parameters() if p.requires_grad and p.dim() >= 2 and p not in embeddings]


def adamw(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-9,
    exclude: Collection[nn.Parameter] = (),
    scales: Mapping[nn.Parameter, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused into one pass over the parameters; β and ε of Vaswani et al. 2017."""
    groups = parameter_groups(model, weight_decay, exclude=exclude, scales=scales)
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
    set_learning_rate(optimizer, lr)
    return optimizer


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` (Jordan et al. 2024: momentum, made orthogonal by Newton–Schulz iterations) with fewer and
    larger operations: matrices of the same shape go through the iterations together.

    The iterations run in bfloat16, as torch's, where it is multiplied faster, and elsewhere in float32.

    `normalize` is Muon+ (Zhang et al. 2026): after the iterations each column of an update gets the length 1, then each
    row, and the whole its norm from before. A column here is a slice along the shorter side.
    """

    def __init__(self, params: Iterable[nn.Parameter], *, normalize: bool = False, **options: Any):
        super().__init__(params, **options)
        self.normalize = normalize

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            momenta: list[Tensor] = []
            self._init_group(group, parameters, gradients, momenta)
            momentum = group["momentum"]
            torch._foreach_lerp_(momenta, gradients, 1 - momentum)
            updates = list(torch._foreach_lerp(gradients, momenta, momentum) if group["nesterov"] else momenta)
            by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
            for place, parameter in enumerate(parameters):
                rows, columns = parameter.shape
                by_shape[min(rows, columns), max(rows, columns)].append(place)
            for (rows, _), places in by_shape.items():
                wide = torch.stack([updates[i] if updates[i].shape[0] == rows else updates[i].T for i in places])
                wide = orthogonal(wide, group["ns_coefficients"], group["ns_steps"], group["eps"])
                if self.normalize:
                    wide = normalized(wide, group["eps"])
                for i, update in zip(places, wide.to(updates[0].dtype), strict=True):
                    updates[i] = update if parameters[i].shape[0] == rows else update.T
            for parameter, update in zip(parameters, updates, strict=True):
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], parameter.shape)
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)
        return loss


def normalized(matrices: Float[Tensor, "batch rows columns"], eps: float) -> Float[Tensor, "batch rows columns"]:
    """Each matrix with columns, then rows of equal length, and with its norm. Zeros stay zeros."""
    even = matrices
    for dim in (1, 2):
        even = even / _norm(even, dim).clamp(min=eps)
    return even * (_norm(matrices, (1, 2)) / _norm(even, (1, 2)).clamp(min=eps))


def _norm(matrices: Tensor, dim: int | tuple[int, int]) -> Tensor:
    return torch.linalg.vector_norm(matrices, dim=dim, keepdim=True)


def orthogonal(
    matrices: Float[Tensor, "batch rows columns"],
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
) -> Float[Tensor, "batch rows columns"]:
    """Each matrix (rows <= columns) with its singular values brought near 1, by iterations of
    X <- PX with P = aI + bA + cA² and A = XXᵀ."""
    in_bfloat16 = multiplies_bfloat16(matrices.device)
    x = matrices.bfloat16() if in_bfloat16 else matrices.float()
    x = x / _norm(x, (1, 2)).clamp(min=eps)
    # Not of the shards of FSDP, whose diagonal is a copy.
    if not in_bfloat16 and x.shape[2] >= 2 * x.shape[1] and type(x) is Tensor:
        return _orthogonal_by_gram(x, coefficients, steps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _orthogonal_by_gram(
    x: Float[Tensor, "batch rows columns"], coefficients: tuple[float, float, float], steps: int
) -> Float[Tensor, "batch rows columns"]:
    """The same iterations of wide matrices on A alone, which is smaller: X <- PX makes A <- PAP, and all P are applied
    to X at the end. bfloat16 is too coarse for it."""
    a, b, c = coefficients
    gram, product = x @ x.mT, None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step + 1 < steps:
            gram = factor @ gram @ factor
    return x if product is None else product @ x


class JoinedOptimizer(torch.optim.Optimizer):
    """Several optimizers as one, with all their parameter groups and one `state` for all parameters."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]):
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        super().__init__(groups, {})
        self.param_groups = groups  # the same dicts, not copies: a learning rate set here reaches the optimizers
        self.optimizers = optimizers
        for optimizer in optimizers:
            optimizer.state = self.state

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


def muon(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.01,
    momentum: float = 0.95,
    normalize: bool = False,
    **options: Any,
) -> torch.optim.Optimizer:
    """`Muon` for the matrices inside blocks; `adamw` with `options` for embeddings, output head, norms and biases.

    Muon's steps are scaled to the length of AdamW's (Liu et al. 2025), so that both share one learning rate.
    """
    inside = {p for stack in model.modules() if isinstance(stack, Stack) for p in stack.layers.parameters()}
    hidden = [p for p in _decayed(model) if p.dim() == 2 and p in inside]
    if not hidden:
        raise InputError(f"a {type(model).__name__} has no matrices inside blocks for Muon: take adamw")
    of_matrices: dict[str, Any] = {"momentum": momentum, "normalize": normalize, "adjust_lr_fn": "match_rms_adamw"}
    matrices = Muon(hidden, lr=lr, weight_decay=weight_decay, **of_matrices)
    return JoinedOptimizer([matrices, adamw(model, lr=lr, weight_decay=weight_decay, exclude=hidden, **options)])


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> float:
    """Scale the gradients down to a total norm of at most `max_norm` (None: leave them); returns the norm before."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    length = norm.item()
    if max_norm is not None and not length <= max_norm:  # saves a pass over the gradients if nothing is clipped
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return length
