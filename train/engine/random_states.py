"""The states of the random number generators that training draws from, as JSON values."""

import json
import random
from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor


def random_states() -> dict[str, Any]:
    """Python's state as JSON, and torch's by device in hexadecimal."""
    encoded = {device: module.get_rng_state().numpy().tobytes().hex() for device, module in _modules().items()}
    return {"python": json.dumps(random.getstate()), **encoded}


def check_random_states(states: Mapping[str, Any]) -> None:
    """Raises what `set_random_states` would, and changes nothing."""
    random.Random().setstate(_python_state(states))
    for device in _modules(states):
        torch.Generator(device).set_state(_bytes(states[device]))


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` returned. The state of a device that is not here is left out."""
    random.setstate(_python_state(states))
    for device, module in _modules(states).items():
        module.set_rng_state(_bytes(states[device]))


def _modules(devices: Container[str] = ("cuda", "mps")) -> dict[str, Any]:
    """The modules of torch that draw random numbers here, by device: the CPU's, and others among `devices`."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    others = [device for device, available in here.items() if available and device in devices]
    return {"cpu": torch, **{device: getattr(torch, device) for device in others}}


def _python_state(states: Mapping[str, Any]) -> tuple[Any, ...]:
    version, numbers, gauss = json.loads(states["python"])
    return version, tuple(numbers), gauss


def _bytes(hexadecimal: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(hexadecimal), dtype=torch.uint8)
