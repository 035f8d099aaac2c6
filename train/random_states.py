"""The generators that training draws from, as they stand."""

import json
import random

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


def set_random_states(states: dict[str, Tensor], python: str) -> None:
    """Those that `random_states` gave. A device that the run had before, and that is not here, is left out."""
    version, numbers, gauss = json.loads(python)
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
