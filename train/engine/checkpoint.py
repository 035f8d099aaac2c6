"""A checkpoint: everything a run needs to go on as if it had never stopped, in one sealed safetensors file, or, of a
model that lies in shards, in a folder of such."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.models.weights import FLOATS, own_tensors, require_fit
from train.engine.processes import Processes
from train.engine.random_states import check_random_states, random_states, set_random_states
from train.engine.sealed import ODDITIES, DamagedFileError, SealedFile, check_seal, write_sealed
from train.engine.shard_folder import STATE, ShardFolder, check_shard_folder, write_shard_folder
from train.engine.shards import is_sharded


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: dict[str, Any]
) -> None:
    """Weights, optimizer state, random states and `state` (JSON). Without an optimizer, weights and `state` alone.

    Several processes write one file, the same whatever their number, apart from the random states of each. Where the
    model lies in shards, `path` without its suffix is a folder that all of them write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    processes = Processes.current()
    tensors = {f"model/{name}": tensor for name, tensor in own_tensors(model).items()}
    generators: dict[str, Tensor] = {}
    metadata = {"state": json.dumps(state)}
    if optimizer is not None:
        for name, parameter in _parameters(model):
            tensors |= {f"optimizer/{key}/{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
        for rank, (states, python) in enumerate(processes.gather(random_states())):
            generators |= {f"random/{rank}/{device}": value for device, value in states.items()}
            metadata[f"random/{rank}"] = python
    if any(map(is_sharded, tensors.values())):
        write_shard_folder(path.with_suffix(""), tensors, generators, metadata)
    else:
        processes.on_rank_0(lambda: write_sealed(path, tensors | generators, metadata))


def read_state(path: Path) -> dict[str, Any]:
    """The `state` of a checkpoint, of which every byte is first found to be as it was written.

    Raises `DamagedFileError` where it is not.
    """
    folder = path.is_dir()
    (check_shard_folder if folder else check_seal)(path)
    try:
        state = json.loads(SealedFile(path / STATE if folder else path).metadata["state"])
        if not isinstance(state, dict):
            raise TypeError("its state is no object")
        return state
    except ODDITIES as error:
        raise DamagedFileError(f"{path} is no checkpoint: {error}") from error


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Put a checkpoint, a file or a folder, back in place and return its `state`. Without an optimizer, the weights
    alone.

    Raises `DamagedFileError`, and `InputError` where it is of another model: then nothing has changed.
    """
    state = read_state(path)
    put_in_place(path, model, optimizer)
    return state


def put_in_place(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """The same of a checkpoint of which `read_state` has just seen every byte."""
    mine = f"random/{Processes.current().rank}"
    own = own_tensors(model)
    try:
        stored = ShardFolder(path) if path.is_dir() else SealedFile(path)
        kinds: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, mine: {}}
        for name, kind in stored.kinds().items():
            group, _, rest = name.rpartition("/") if name.startswith("random/") else name.partition("/")
            kinds.setdefault(group, {})[rest] = kind
        require_fit(own, kinds["model"], str(path))
        targets = {f"model/{name}": tensor for name, tensor in own.items()}
        python = None if optimizer is None else stored.metadata.get(mine)  # the run may have had fewer processes
        fresh: dict[nn.Parameter, dict[str, Tensor]] = {}
        if optimizer is not None:
            _check_optimizer(optimizer, model, kinds["optimizer"])
            fresh = _room_for(model, kinds["optimizer"])
            names = dict(_parameters(model))
            targets |= {
                f"optimizer/{key}/{name}": tensor
                for name, parameter in names.items()
                for key, tensor in fresh[parameter].items()
            }
        if python is not None:
            generators = {device: stored.tensor(f"{mine}/{device}") for device in kinds[mine]}
            check_random_states(generators, python)
        with torch.no_grad():
            stored.read(targets)
        if optimizer is not None:
            for parameter, values in fresh.items():
                optimizer.state.pop(parameter, None)
                if values:
                    optimizer.state[parameter] = values
        if python is not None:
            set_random_states(generators, python)
    except InputError:
        raise
    except ODDITIES as error:
        raise DamagedFileError(f"{path} is no checkpoint of such a run: {error}") from error


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


def _room_for(model: nn.Module, kinds: Mapping[str, Tensor]) -> dict[nn.Parameter, dict[str, Tensor]]:
    """Tensors to read an optimizer's state into, cut as the parameters are that they belong to."""
    parameters = dict(_parameters(model))
    room: dict[nn.Parameter, dict[str, Tensor]] = {parameter: {} for parameter in parameters.values()}
    for name, kind in kinds.items():
        key, _, parameter_name = name.partition("/")
        parameter = parameters[parameter_name]
        like = parameter.detach() if kind.shape == parameter.shape else torch.empty(kind.shape, device=parameter.device)
        room[parameter][key] = torch.empty_like(like, dtype=kind.dtype)
    return room


def _parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """By the names of the plain modules: compiling a part of a model puts "_orig_mod." into them."""
    return [(name.replace("_orig_mod.", ""), parameter) for name, parameter in model.named_parameters()]
