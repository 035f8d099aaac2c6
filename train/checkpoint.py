"""A checkpoint: everything a run needs to go on as if it had never stopped, in one sealed safetensors file."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.models.weights import FLOATS, own_tensors, require_fit
from train.distributed import Processes
from train.random_states import check_random_states, random_states, set_random_states
from train.sealed import DTYPES, DamagedFileError, check_seal, write_sealed
from train.shards import on_main, sharded_like


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: dict[str, Any]
) -> None:
    """Weights, optimizer state, random states and `state` (JSON). Without an optimizer, weights and `state` alone.

    Several processes write one file, the same whatever their number, apart from the random states of each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    processes = Processes.current()
    tensors = {f"model/{name}": tensor for name, tensor in own_tensors(model).items()}
    metadata = {"state": json.dumps(state)}
    if optimizer is not None:
        for name, parameter in _parameters(model):
            tensors |= {f"optimizer/{key}/{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
        for rank, (generators, python) in enumerate(processes.gather(random_states())):
            tensors |= {f"random/{rank}/{device}": value for device, value in generators.items()}
            metadata[f"random/{rank}"] = python
    whole = {name: on_main(tensor) for name, tensor in tensors.items()}
    processes.from_main(lambda: write_sealed(path, whole, metadata))


def read_state(path: Path) -> dict[str, Any]:
    """The `state` of a checkpoint, of which every byte is first found to be as it was written.

    Raises `DamagedFileError` where it is not.
    """
    check_seal(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
        if not isinstance(state, dict):
            raise TypeError("its state is no object")
        return state
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is no checkpoint: {error}") from error


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Put a checkpoint back in place and return its `state`. Without an optimizer, the weights alone.

    Raises `DamagedFileError`, and `InputError` where it is of another model: then nothing has changed.
    """
    state = read_state(path)
    mine = f"random/{Processes.current().rank}"
    own = own_tensors(model)
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                group, _, rest = name.partition("/")
                if group in tensors:
                    tensors[group][rest] = _without_numbers(file.get_slice(name))
            require_fit(own, tensors["model"], str(path))
            python = None if optimizer is None else file.metadata().get(mine)  # the run may have had fewer processes
            if optimizer is not None:
                _check_optimizer(optimizer, model, tensors["optimizer"])
            if python is not None:
                names = [name for name in file.keys() if name.startswith(f"{mine}/")]  # noqa: SIM118
                generators = {name.removeprefix(f"{mine}/"): file.get_tensor(name).clone() for name in names}
                check_random_states(generators, python)

            with torch.no_grad():
                for name, tensor in own.items():
                    tensor.copy_(sharded_like(file.get_tensor(f"model/{name}"), tensor))
            if optimizer is not None:
                _restore(optimizer, model, tensors["optimizer"], lambda name: file.get_tensor(f"optimizer/{name}"))
            if python is not None:
                set_random_states(generators, python)
    except InputError:
        raise
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"{path} is no checkpoint of such a run: {error}") from error
    return state


def _without_numbers(tensor: Any) -> Tensor:
    """Shape and kind of a tensor in a file."""
    return torch.empty(tensor.get_shape(), dtype=DTYPES[tensor.get_dtype()], device="meta")


def _check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raises `ValueError`. Optimizers trust their state: fused ones read and write past a tensor that is too short."""
    parameters = dict(_parameters(model))
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    held: dict[str, set[str]] = {}
    for name, tensor in tensors.items():
        key, _, parameter_name = name.partition("/")
        if parameter_name not in parameters:
            raise ValueError(f"{name} is of no parameter of the model")
        parameter = parameters[parameter_name]
        shape, dtypes = ((), FLOATS) if key == "step" else (parameter.shape, (parameter.dtype,))
        if tensor.shape != shape or tensor.dtype not in dtypes:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)} of {tensor.dtype}, not {tuple(shape)} of floats")
        held.setdefault(parameter_name, set()).add(key)
    for name, keys in held.items():
        adam = "betas" in groups.get(parameters[name], {})
        if keys != ({"step", "exp_avg", "exp_avg_sq"} if adam else {"momentum_buffer"}):
            raise ValueError(f"of {name} it has {', '.join(sorted(keys))}, which is not what the optimizer keeps")


def _restore(
    optimizer: torch.optim.Optimizer, model: nn.Module, names: Iterable[str], read: Callable[[str], Tensor]
) -> None:
    parameters = dict(_parameters(model))
    for parameter in parameters.values():
        optimizer.state.pop(parameter, None)
    for name in names:
        key, _, parameter_name = name.partition("/")
        parameter = parameters[parameter_name]
        # A copy: the file may be gone before the run ends, and a shard must not keep all of its tensor in memory.
        optimizer.state[parameter][key] = sharded_like(read(name), parameter).clone()


def _parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """By the names of the plain modules: compiling a part of a model puts "_orig_mod." into them."""
    return [(name.replace("_orig_mod.", ""), parameter) for name, parameter in model.named_parameters()]
