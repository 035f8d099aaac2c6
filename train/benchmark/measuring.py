"""Fair timing: what the machine can do, and several contenders in turns."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Machine:
    """Floating-point operations per second of large matrix products, and bytes per second of a copy."""

    peak: float
    bfloat16_peak: float
    bandwidth: float

    @classmethod
    def measured(cls) -> "Machine":
        peak = _matmul_rate(torch.float32, 1536)
        # Emulated bfloat16 is slow enough to tell from a small product.
        hint = _matmul_rate(torch.bfloat16, 192)
        source = torch.ones(64 << 20)
        target = torch.empty_like(source)
        seconds = min(timed(lambda: target.copy_(source)) for _ in range(5))
        bandwidth = 2 * source.numel() * source.element_size() / seconds
        return cls(peak, _matmul_rate(torch.bfloat16, 1536) if hint > peak / 10 else hint, bandwidth)

    @property
    def bfloat16_pays(self) -> bool:
        return self.bfloat16_peak > self.peak

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _matmul_rate(dtype: torch.dtype, size: int) -> float:
    left, right = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: left @ right) for _ in range(6))


def timed(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_turns(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int, repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds per call of each contender in each round. They take turns, so that what else the machine does falls on
    all alike; with `warm_up`, the first call of each turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            if warm_up:
                contender()
            seconds[name].append(timed(lambda call=contender: [call() for _ in range(repeats)]) / repeats)  # type: ignore[misc]
    return seconds


def ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as fast we are: the median over rounds, each of which compares neighbours in time."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))
