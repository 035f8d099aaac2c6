"""The flags of `python -m train.pretrain gpt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from minitransformer.errors import InputError
from train.pretrain.settings import PretrainSettings


@dataclass(frozen=True)
class GPTSettings(PretrainSettings):
    """Pretrain a causal model. Its weights, `tokenizer.json` and figures go into the run folder.

    Trains for 2.5 minutes if neither --minutes nor --steps is given.
    """

    data: str = "shakespeare"
    """shakespeare, hub:NAME, or a path: a .txt file (its last tenth is validation), a table with a column text, or a
    folder of train and validation files."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] = "character"
    """Trained on the training text."""
    vocab_size: int | None = None
    """The size of a bpe or byte-bpe vocabulary. Default: 2,000."""

    init: Path | None = None
    """Start from the weights, sizes and tokenizer of a run or of a GPT-2 checkpoint."""
    architecture: Literal["modern", "gpt2"] = "modern"
    """modern: rotary positions, RMSNorm, QK-norm, squared ReLU, no biases, output projections that start at zero."""
    num_layers: int | None = None
    """Default: 4."""
    d_model: int | None = None
    """Default: 128."""
    num_heads: int | None = None
    """Default: 4."""
    num_kv_heads: int | None = None
    """Heads of keys and values. Default: as many as --num-heads."""
    d_ff: int | None = None
    """Default: 4 x --d-model."""
    context: int | None = None
    """Tokens that the model sees at once. Default: 128."""
    dropout: float = 0.0

    batch_size: int = 16
    """Windows of --context tokens in a batch."""

    sizes: ClassVar = ("num_layers", "d_model", "num_heads", "num_kv_heads", "d_ff", "vocab_size")

    def validate(self) -> None:
        super().validate()
        self.require("batch_size", more_than=0)
        if self.vocab_size is not None and self.tokenizer == "character":
            raise InputError(f"--vocab-size {self.vocab_size} is for --tokenizer bpe or byte-bpe")
