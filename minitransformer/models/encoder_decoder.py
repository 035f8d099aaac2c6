"""What the encoder-decoders have in common: vocabularies, the loss of a target, the start of decoding."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.checks import require_whole
from minitransformer.decodable import MOST_NEW_TOKENS
from minitransformer.errors import InputError
from minitransformer.models.base import (
    Ids,
    Loss,
    Memory,
    Model,
    Valid,
    require_ids,
    require_known,
    require_rows_of,
    require_shape_of,
    target_loss,
)
from minitransformer.models.config import Config


@dataclass(frozen=True)
class EncoderDecoderConfig(Config):
    """The checks that both models' configurations share; the fields are theirs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("source_vocab_size", "target_vocab_size", "max_length")
        self.require_fraction("dropout", "label_smoothing")
        require_whole("max_extra_tokens", self.max_extra_tokens, at_least=1, at_most=MOST_NEW_TOKENS)  # type: ignore[attr-defined]
        ids = {name: getattr(self, name) for name in ("pad_id", "bos_id", "eos_id")}
        self.require_ids(self.target_vocab_size, **ids)  # type: ignore[attr-defined]


class EncoderDecoder(Model):
    """Source ids in, logits for each next target token out: `output(decode(target_ids, encode(source_ids)))`."""

    output: nn.Linear

    @abstractmethod
    def encode(self, ids: Ids, valid: Valid | None = None) -> Memory:
        """States of the source. All of `ids` are real unless `valid` says otherwise."""

    @abstractmethod
    def decode(self, target_ids: Int[Tensor, "batch target"], memory: Memory) -> Float[Tensor, "batch target features"]:
        """What `output` reads after each of the target tokens."""

    @abstractmethod
    def state_before_bos(self, memory: Memory, *, max_new_tokens: int) -> Any:
        """What decoding carries when it has read the source and no target token."""

    @abstractmethod
    def step(self, ids: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch vocab"], Any]:
        """Read one more target token per row: logits of the next."""

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_valid: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits for the token after each of `target_ids`, which start with BOS. All of `source_ids` are real unless
        `source_valid` says otherwise."""
        require_ids("source_ids", source_ids)
        require_ids("target_ids", target_ids)
        require_rows_of(source_ids, target_ids=target_ids)
        return self.output(self.decode(target_ids, self.encode(source_ids, source_valid)))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `source_ids`, `source_valid` and `target_ids` (BOS ... EOS, then padding)."""
        require_batch(batch)
        inputs, targets, is_target = decoder_inputs_and_targets(batch["target_ids"], self.config.pad_id)
        features = self.decode(inputs, self.encode(batch["source_ids"], batch["source_valid"]))
        return self.loss_of(self.output(features[is_target]), targets[is_target], batch)

    def loss_of(
        self, logits: Float[Tensor, "targets vocab"], targets: Int[Tensor, " targets"], batch: dict[str, Tensor]
    ) -> dict[str, Loss]:
        """Smoothed in training only; the count is that of all targets of the batch."""
        smoothing = self.config.label_smoothing if self.training else 0.0
        return {"lm": Loss(target_loss(logits, targets, "target_ids", smoothing), self.count_targets(batch)["lm"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"lm": (batch["target_ids"][:, 1:] != self.config.pad_id).sum()}

    @torch.no_grad()
    def start(
        self, inputs: Ids, valid: Valid | None = None, *, max_new_tokens: int
    ) -> tuple[Float[Tensor, "batch vocab"], Any]:
        """Encode the source and read BOS: logits of the first target token, and the state."""
        require_whole("max_new_tokens", max_new_tokens, at_least=0, at_most=MOST_NEW_TOKENS)
        self.check_source(inputs, valid)
        require_known("source_ids", inputs, self.config.source_vocab_size)
        state = self.state_before_bos(self.encode(inputs, valid), max_new_tokens=max_new_tokens)
        return self.step(torch.full((len(inputs),), self.config.bos_id, device=inputs.device), state)

    def check_source(self, ids: Ids, valid: Valid | None) -> None:
        require_shape_of(ids, valid=valid)
        if ids.shape[1] > self.config.max_length:
            raise InputError(
                f"a source of {ids.shape[1]} tokens is longer than the model's max_length={self.config.max_length}"
            )


def require_batch(batch: dict[str, Tensor]) -> None:
    """`InputError` for tensors that do not fit one another; several targets of one source would pass as its beams."""
    require_ids("target_ids", batch["target_ids"])
    require_shape_of(batch["source_ids"], source_valid=batch["source_valid"])
    require_rows_of(batch["source_ids"], target_ids=batch["target_ids"])


def decoder_inputs_and_targets(
    target_ids: Int[Tensor, "batch length"], pad_id: int
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """BOS y1 y2 EOS gives the inputs BOS y1 y2, the targets y1 y2 EOS, and which targets are real."""
    targets = target_ids[:, 1:]
    return target_ids[:, :-1], targets, targets != pad_id
