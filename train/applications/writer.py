"""Models that write ids one after another, and how often all of the ids are right.

A `Writer` reads its inputs into a state and writes on from a state. Training writes all of the right ids with one call,
and decoding writes one id with each call, so that both compute the same.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from minitransformer import beam_search, greedy
from minitransformer.models.base import Config, Loss, Model, require_rows_of, target_loss

PAD, BOS, EOS, FIRST = range(4)
"""`FIRST` is the first id that stands for a letter, a word or a symbol."""

Ids = Int[Tensor, "batch time"]
Logits = Float[Tensor, "batch time vocab"]


@dataclass(frozen=True)
class WriterConfig(Config):
    """Every integer is a size."""

    pad_id: ClassVar[int] = PAD
    eos_id: ClassVar[int] = EOS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive(*(name for name, value in vars(self).items() if type(value) is int))


class Writer(Model):
    """From inputs, whose first axis is the batch, to ids that end in EOS."""

    @abstractmethod
    def read(self, inputs: Tensor) -> Any:
        """The state before the first id. It has `select(rows)`."""

    @abstractmethod
    def write(self, before: Ids, state: Any) -> tuple[Logits, Any]:
        """The logits of the id after each of `before`, and the state after the last one."""

    def forward(self, inputs: Shaped[Tensor, "batch *input"], ids: Ids) -> Logits:
        """The logits of each of `ids`, given the inputs and the ids before it."""
        require_rows_of(inputs, ids=ids)
        return self.write(ids_before(ids), self.read(inputs))[0]

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `inputs` and `ids` (... EOS, then padding)."""
        is_target = batch["ids"] != PAD
        logits = self(batch["inputs"], batch["ids"])[is_target]
        return {"ids": Loss(target_loss(logits, batch["ids"][is_target]), is_target.sum())}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"ids": (batch["ids"] != PAD).sum()}

    @torch.no_grad()
    def start(
        self, inputs: Shaped[Tensor, "batch *input"], valid: Tensor | None = None, *, max_new_tokens: int
    ) -> tuple[Float[Tensor, "batch vocab"], Any]:
        return self.step(torch.full((len(inputs),), BOS, device=inputs.device), self.read(inputs))

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch vocab"], Any]:
        logits, state = self.write(rearrange(ids, "batch -> batch 1"), state)
        return logits[:, 0], state


def ids_before(ids: Ids) -> Ids:
    """BOS, then all of `ids` but the last."""
    return F.pad(ids[:, :-1], (1, 0), value=BOS)


def until_end(ids: Sequence[int]) -> list[int]:
    """The ids before the first EOS."""
    return list(ids[: ids.index(EOS)] if EOS in ids else ids)


def written(model: Writer, inputs: Shaped[Tensor, "batch *input"], longest: int, beam_size: int = 1) -> list[list[int]]:
    """What the model writes for each of the inputs, without EOS: the likeliest id at every step, or by beam search the
    ids of the largest probability."""
    model.eval()
    inputs = inputs.to(model.device)
    if beam_size == 1:
        return [until_end(ids) for ids in greedy(model, inputs, max_new_tokens=longest).tolist()]
    beams = beam_search(model, inputs, max_new_tokens=longest, beam_size=beam_size, alpha=0.0)
    return [until_end(best.ids) for best, *_ in beams]


def exact_match(found: Sequence[Sequence[int]], ids: Ids) -> float:
    """The share of rows that are right to the last id."""
    return sum(list(one) == until_end(row) for one, row in zip(found, ids.tolist(), strict=True)) / len(ids)
