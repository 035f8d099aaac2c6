"""What is in a checkpoint: weights, optimizer state, random states and the run's state, so that a run resumes as if it
had never stopped. How it lies on disk: `tensor_folder`. Which one a run resumes from: `resuming`."""

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.models.weights import FLOATS, own_tensors, require_fit
from train.engine.data_parallel import sharded_like
from train.engine.processes import Processes
from train.engine.tensor_folder import joined, read_tensors, read_values, without_numbers, write_tensor_folder

MISFITS = (SafetensorError, RuntimeError, LookupError, TypeError, ValueError, OverflowError, AssertionError)
"""Raised by torch, safetensors and Python for values of the wrong kind."""


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: Mapping[str, Any]
) -> None:
    """Weights, optimizer state, random states and `state` (JSON). Without an optimizer, weights and `state` alone.

    All processes have to call it. The random states of each are saved; the rest does not depend on their number.
    """
    groups = {"model": own_tensors(model)}
    values: dict[str, Any] = {"state": state}
    if optimizer is not None:
        groups["optimizer"] = {
            f"{key}/{name}": value
            for name, parameter in _parameters(model)
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        values["random"] = Processes.current().gather(random_states())
    write_tensor_folder(folder, groups, values)


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Put a checkpoint back in place and return its `state`. Without an optimizer, load the weights alone.

    Its bytes are to be checked before, by `require_undamaged`. Raises `InputError` if it is of another model or
    optimizer, or made up: then nothing has changed.
    """
    state, own = read_state(folder), own_tensors(model)
    try:
        tensors = read_tensors(folder, "model")
        require_fit(own, {name: without_numbers(rows) for name, rows in tensors.items()}, str(folder))
        held: dict[Tensor, dict[str, Tensor]] = {}
        if optimizer is not None:
            held = _read_optimizer(folder, optimizer, model)
            of_ranks, rank = read_values(folder)["random"], Processes.current().rank
            if rank < len(of_ranks):  # the run may have had fewer processes
                set_random_states(of_ranks[rank])
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(sharded_like(joined(tensors[name]), tensor))
    except InputError:
        raise
    except MISFITS as error:
        raise InputError(
            f"{folder} does not fit this run ({error}): resume it with the version that wrote it"
        ) from error
    if optimizer is not None:
        optimizer.state.clear()
        optimizer.state.update(held)
    return state


def read_state(folder: Path) -> dict[str, Any]:
    """The `state` of a checkpoint alone. `InputError` if it has none."""
    state = read_values(folder).get("state")
    if not isinstance(state, dict):
        raise InputError(f"{folder} holds no state of a run")
    return state


def _read_optimizer(
    folder: Path, optimizer: torch.optim.Optimizer, model: nn.Module
) -> dict[Tensor, dict[str, Tensor]]:
    """The optimizer's state by parameter, on its device and sharded as it is.

    Raises `ValueError`: optimizers trust their state, and fused ones read and write past a tensor that is too short.
    """
    parameters = dict(_parameters(model))
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    held: dict[Tensor, dict[str, Tensor]] = {}
    for name, rows in read_tensors(folder, "optimizer").items():
        key, _, parameter_name = name.partition("/")
        if parameter_name not in parameters:
            raise ValueError(f"the model has no parameter for {name}")
        parameter, found = parameters[parameter_name], without_numbers(rows)
        like = parameter.detach() if key != "step" else torch.empty((), device=parameter.device)
        dtypes = (parameter.dtype,) if key != "step" else FLOATS
        if found.shape != like.shape or found.dtype not in dtypes:
            raise ValueError(
                f"{name} has shape {tuple(found.shape)} of {found.dtype}, not {tuple(like.shape)} of floats"
            )
        target = torch.empty_like(like, dtype=found.dtype)
        held.setdefault(parameter, {})[key] = target.copy_(sharded_like(joined(rows), target))
    for name, parameter in parameters.items():
        keys, adam = set(held.get(parameter, ())), "betas" in groups.get(parameter, {})
        if keys and keys != ({"step", "exp_avg", "exp_avg_sq"} if adam else {"momentum_buffer"}):
            raise ValueError(f"the optimizer does not keep {', '.join(sorted(keys))} of {name}")
    return held


def _parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """By the names of the plain modules: compiling a part of a model puts "_orig_mod." into them."""
    return [(name.replace("_orig_mod.", ""), parameter) for name, parameter in model.named_parameters()]


def random_states() -> dict[str, Any]:
    """The states of the generators that training draws from: Python's as JSON, torch's by device in hexadecimal."""
    encoded = {device: module.get_rng_state().numpy().tobytes().hex() for device, module in _generators().items()}
    return {"python": json.dumps(random.getstate()), **encoded}


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` returned, or raise what is wrong with it and change nothing. The state of a device
    that is not here is left out."""
    before = random_states()
    try:
        version, numbers, gauss = json.loads(states["python"])
        random.setstate((version, tuple(numbers), gauss))
        for device, module in _generators().items():
            if device in states:
                module.set_rng_state(torch.frombuffer(bytearray.fromhex(states[device]), dtype=torch.uint8))
    except Exception:
        set_random_states(before)
        raise


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within the block random numbers may be drawn that training does not miss."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)


def _generators() -> dict[str, Any]:
    """The modules of torch that draw random numbers here, by device."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return {device: torch if device == "cpu" else getattr(torch, device) for device in here if here[device]}
