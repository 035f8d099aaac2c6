"""What the encoder-decoder models have in common: their vocabularies, and the loss of a target."""

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.models.base import Config, Model


@dataclass(frozen=True)
class EncoderDecoderConfig(Config):
    """The checks that both models' configurations share; the fields are theirs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("source_vocab_size", "target_vocab_size", "max_length")
        self.require_fraction("dropout", "label_smoothing")
        ids = {name: getattr(self, name) for name in ("pad_id", "bos_id", "eos_id")}
        self.require_ids(self.target_vocab_size, **ids)  # type: ignore[attr-defined]


class EncoderDecoder(Model):
    """Reads `source_ids` and writes `target_ids`."""

    def check_source(self, ids: Int[Tensor, "batch source"]) -> None:
        if ids.shape[1] > self.config.max_length:
            raise InputError(
                f"a source of {ids.shape[1]} tokens is longer than the model's max_length={self.config.max_length}"
            )

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"lm": (batch["target_ids"][:, 1:] != self.config.pad_id).sum()}


def decoder_inputs_and_targets(
    target_ids: Int[Tensor, "batch length"], pad_id: int
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """BOS y1 y2 EOS gives the inputs BOS y1 y2, the targets y1 y2 EOS, and which targets are real."""
    targets = target_ids[:, 1:]
    return target_ids[:, :-1], targets, targets != pad_id


def shared_sources(sources: Int[Tensor, " rows"]) -> tuple[Int[Tensor, " sources"], int]:
    """Which source each run of equal neighbours has, and how long every run is: 2 2 0 0 gives 2 0 and 2. Where runs
    differ in length, each row is its own."""
    distinct, counts = sources.unique_consecutive(return_counts=True)
    lengths = set(counts.tolist())
    return (distinct, lengths.pop()) if len(lengths) == 1 else (sources, 1)
