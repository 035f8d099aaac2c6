"""A model's tensors in a safetensors file: each once, whatever the number of modules that share it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.files import atomic


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, each once however many names it has.

    Names are those of the plain modules: compiling a part of a model puts "_orig_mod." into them.
    """
    persistent = model.state_dict(keep_vars=True).keys()
    named = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if n in persistent)]
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in named}


def save_weights(model: nn.Module, path: Path) -> None:
    with atomic(path) as temporary:
        save_file({name: t.detach().contiguous() for name, t in own_tensors(model).items()}, temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Raises `InputError` for a file that is damaged or whose tensors are not the model's, naming those."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    copy_weights(model, tensors, str(path))


def copy_weights(model: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy `tensors` into the model's own; `InputError` names all that are missing, extra or of another shape."""
    own = own_tensors(model)
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is none of the model's" for name in tensors if name not in own]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if wrong:
        raise InputError(f"{origin} does not fit the model: {'; '.join(wrong)}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
