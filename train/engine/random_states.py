"""The generators that training draws from, as they stand."""

import json
import random
from typing import Any

import torch
from torch import Tensor


def random_states() -> tuple[dict[str, Tensor], str]:
    """Those of torch by device, and Python's as JSON."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states, json.dumps(random.getstate())


def check_random_states(states: dict[str, Tensor], python: str) -> None:
    """Raises what `set_random_states` would, and changes nothing."""
    random.Random().setstate(_python_state(python))
    torch.Generator().set_state(states["cpu"])
    for device, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        if device in states and backend.is_available():
            torch.Generator(device).set_state(states[device])


def set_random_states(states: dict[str, Tensor], python: str) -> None:
    """Those that `random_states` gave. A device that the run had before, and that is not here, is left out."""
    random.setstate(_python_state(python))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


def _python_state(python: str) -> tuple[Any, ...]:
    version, numbers, gauss = json.loads(python)
    return version, tuple(numbers), gauss
