"""A model's tensors in a safetensors file; a tensor that several modules share is stored once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.untrusted import damage_refused, memory_bytes, require_sane_file

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; a shared tensor under its first name only.

    The "_orig_mod." that torch.compile puts into the names of a compiled part is removed.
    """
    persistent = model.state_dict(keep_vars=True).keys()
    named = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if n in persistent)]
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in named}


def own_shapes(build: Callable[[], nn.Module], origin: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The `own_tensors` of the model that `build` makes, on the meta device, which reserves no memory.

    Raises `InputError` for a model that in `dtype` is larger than this machine's memory.
    """
    try:
        with torch.device("meta"):
            own = own_tensors(build())
    except (RuntimeError, TypeError, OverflowError) as error:  # raised by torch for sizes of more than 64 bits
        reason = str(error).partition("\n")[0]
        raise InputError(f"{origin}: no memory holds a model of the sizes in config.json ({reason})") from error
    needed, memory = sum(tensor.numel() for tensor in own.values()) * dtype.itemsize, memory_bytes()
    if needed > memory:
        sizes = f"{needed / 1e9:,.0f} GB of memory, this machine has {memory / 1e9:,.0f} GB"
        raise InputError(f"{origin}: a model of the sizes in config.json takes {sizes}")
    return own


def save_weights(model: nn.Module, path: Path) -> None:
    with atomic(path) as temporary:
        save_file({name: t.detach().contiguous() for name, t in own_tensors(model).items()}, temporary)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, memory-mapped; `InputError` if it is damaged."""
    require_sane_file(path, most_bytes=None)
    with damage_refused(f"{path} is damaged", SafetensorError, KeyError, RuntimeError):  # KeyError: an unknown dtype
        return load_file(path)


def give_memory(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the model to `dtype`. Parameters on the meta device get memory without values; shared ones stay shared."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                if parameter not in made:
                    made[parameter] = nn.Parameter(torch.empty(parameter.shape, dtype=dtype))
                module._parameters[name] = made[parameter]
    model.to(dtype)


def copy_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into the model's own tensors of the same names."""
    own = own_tensors(model)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def require_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """`InputError` names a tensor with a number that is NaN or infinite, with which a model computes nothing."""
    for name, tensor in tensors.items():
        # The sum takes a fraction of the time of a look at each number; huge ones may overflow in it.
        if not tensor.is_floating_point() or tensor.sum(dtype=torch.float32).isfinite():
            continue
        if count := int((~tensor.isfinite()).sum()):
            raise InputError(
                f"{origin}: {count:,} of the {tensor.numel():,} numbers of {name} are NaN or infinite, as after a "
                "training that diverged: take an earlier checkpoint, or train again"
            )


def require_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Any], origin: str) -> None:
    """`InputError` names the first ten tensors that are missing, unexpected, or of the wrong shape or dtype; of
    `tensors` nothing else is looked at."""
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is not in the model" for name in tensors if name not in own]
    for name, ours, given in ((name, own[name], tensors[name]) for name in own if name in tensors):
        if given.shape != ours.shape:
            wrong.append(f"{name} has shape {tuple(given.shape)}, not {tuple(ours.shape)}")
        elif given.dtype not in (FLOATS if ours.is_floating_point() else (ours.dtype,)):
            wrong.append(f"{name} holds {given.dtype}, not {'floats' if ours.is_floating_point() else ours.dtype}")
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise InputError(f"{origin} does not fit the model in {len(wrong)} tensors: {'; '.join(wrong[:10])}{more}")
