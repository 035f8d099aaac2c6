"""The states of the random number generators that training draws from, as JSON values."""

import json
import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def random_states() -> dict[str, Any]:
    """Python's state as JSON, and torch's by device in hexadecimal."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    encoded = {device: state.numpy().tobytes().hex() for device, state in states.items()}
    return {"python": json.dumps(random.getstate()), **encoded}


def check_random_states(states: Mapping[str, Any]) -> None:
    """Raises what `set_random_states` would, and changes nothing."""
    random.Random().setstate(_python_state(states))
    torch.Generator().set_state(_bytes(states["cpu"]))
    for device, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        if device in states and backend.is_available():
            torch.Generator(device).set_state(_bytes(states[device]))


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` returned. The state of a device that is not here is left out."""
    random.setstate(_python_state(states))
    torch.set_rng_state(_bytes(states["cpu"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(states["cuda"]))
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(_bytes(states["mps"]))


def _python_state(states: Mapping[str, Any]) -> tuple[Any, ...]:
    version, numbers, gauss = json.loads(states["python"])
    return version, tuple(numbers), gauss


def _bytes(hexadecimal: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(hexadecimal), dtype=torch.uint8)
