"""Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.models.weights import copy_weights, own_tensors


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: dict[str, Any]
) -> None:
    """Weights, optimizer state, random states and `state` (JSON), written under another name and then renamed."""
    tensors = {f"model/{name}": tensor for name, tensor in own_tensors(model).items()}
    if optimizer is not None:
        for name, parameter in model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, {"state": json.dumps(state)})


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Put a checkpoint back in place and return its `state`. Without an optimizer, the weights alone."""
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            weights = {n.removeprefix("model/"): file.get_tensor(n) for n in names if n.startswith("model/")}
            copy_weights(model, weights, str(path))
            if optimizer is not None:
                for name, parameter in model.named_parameters():
                    found = {n.split("/")[1]: n for n in names if n.startswith("optimizer/") and n.endswith(f"/{name}")}
                    optimizer.state[parameter] = {k: file.get_tensor(n).to(parameter.device) for k, n in found.items()}
                torch.set_rng_state(file.get_tensor("random/cpu"))
                if "random/cuda" in names and torch.cuda.is_available():
                    torch.cuda.set_rng_state(file.get_tensor("random/cuda"))
            return json.loads(file.metadata()["state"])
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
