"""Fair timing: what the machine can do, one training epoch for every contender, and contenders in turns."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.optim import adamw, clip_gradients
from train.engine.loop import autocast


@dataclass(frozen=True)
class Machine:
    """Floating-point operations per second of large matrix products, and bytes per second that a sum reads."""

    peak: float
    bfloat16_peak: float
    read_rate: float

    @classmethod
    def measured(cls) -> "Machine":
        peak = _matmul_rate(torch.float32, 1536)
        # A small product is enough to show that bfloat16 is emulated.
        hint = _matmul_rate(torch.bfloat16, 192)
        numbers = torch.ones(85 << 20)
        read_rate = numbers.numel() * numbers.element_size() / min(timed(numbers.sum) for _ in range(5))
        return cls(peak, _matmul_rate(torch.bfloat16, 1536) if hint > peak / 10 else hint, read_rate)

    @property
    def bfloat16_pays(self) -> bool:
        return self.bfloat16_peak > self.peak

    def precisions(self, *, few_rows: bool = False) -> Iterator[tuple[str, torch.dtype | None, float]]:
        """Name, autocast type and matmul peak of each precision that is worth measuring here.

        Products of `few_rows` are limited by memory. So for them bfloat16 is measured wherever it is not emulated.
        """
        yield "fp32", None, self.peak
        if self.bfloat16_pays or (few_rows and self.bfloat16_peak > self.peak / 10):
            yield "bf16", torch.bfloat16, self.bfloat16_peak

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _matmul_rate(dtype: torch.dtype, size: int) -> float:
    left, right = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: left @ right) for _ in range(6))


def timed(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def step_of(
    model: nn.Module,
    loss_of: Callable[[Any], Tensor],
    dtype: torch.dtype | None,
    optimizer: torch.optim.Optimizer | None = None,
) -> Callable[[Any], None]:
    """A training step on a batch: forward, backward, clip, optimizer (a fused AdamW unless given)."""
    optimizer = adamw(model, lr=1e-4) if optimizer is None else optimizer
    device = next(model.parameters()).device
    model.train()

    def step(batch: Any) -> None:
        with autocast(device, dtype):
            loss = loss_of(batch)
        loss.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def epoch_of(
    model: nn.Module, loss_of: Callable[[Any], Tensor], batches: Iterable[Any], dtype: torch.dtype | None
) -> Callable[[], None]:
    """One step for each batch."""
    step = step_of(model, loss_of, dtype)

    def epoch() -> None:
        for batch in batches:
            step(batch)

    return epoch


def our_loss(model: Any) -> Callable[[dict[str, Tensor]], Tensor]:
    """The mean of the model's one loss term over a batch."""

    def loss_of(batch: dict[str, Tensor]) -> Tensor:
        [loss] = model.loss(batch).values()
        return loss.total / loss.count

    return loss_of


def in_turns(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int, repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds per call of each contender in each round.

    Contenders take turns, so that other load on the machine slows all of them alike. With `warm_up`, the first call of
    each turn is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            if warm_up:
                contender()
            seconds[name].append(timed(lambda call=contender: [call() for _ in range(repeats)]) / repeats)  # type: ignore[misc]
    return seconds


def speeds(contenders: Mapping[str, Callable[[], Any]], work: float, **turns: Any) -> dict[str, float]:
    """What "ours" and "theirs" do of the `work` of a call per second, medians over rounds, and their `ratios`."""
    seconds = in_turns(contenders, **turns)
    medians = {name: work / statistics.median(times) for name, times in seconds.items()}
    return {**ratios(seconds["theirs"], seconds["ours"]), **medians}


def ratios(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """How many times as fast ours is in a round, whose turns are neighbours in time: the median and the extremes."""
    each = [their / our for their, our in zip(theirs, ours, strict=True)]
    return {"ratio": statistics.median(each), "lowest_ratio": min(each), "highest_ratio": max(each)}


def times_as_fast(row: Mapping[str, Any]) -> str:
    return f"{row['ratio']:.2f} times as fast ({row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f})"
