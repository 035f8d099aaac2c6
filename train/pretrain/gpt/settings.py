"""The flags of `python -m train.pretrain gpt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minitransformer.errors import InputError
from train.pretrain.settings import PretrainSettings


@dataclass(frozen=True)
class GPTSettings(PretrainSettings):
    """Pretrain a causal model: its weights, `tokenizer.json` and figures go into the run folder.

    2.5 minutes of training if no length is given.
    """

    data: str = "shakespeare"
    """shakespeare, hub:NAME, or a path: a .txt file (its last tenth is validation), a table with a column text, or a
    folder of train and validation files."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] = "character"
    """Trained on the training text."""
    vocab_size: int | None = None
    """Of bpe and byte-bpe. Default: 2,000."""

    init: Path | None = None
    """Go on from the weights, sizes and tokenizer of a run or of a GPT-2 checkpoint."""
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

    def validate(self) -> None:
        super().validate()
        sizes = ("num_layers", "d_model", "num_heads", "num_kv_heads", "d_ff", "vocab_size")
        self.require_positive(*sizes, "context", "batch_size")
        if self.vocab_size is not None and self.tokenizer == "character":
            raise InputError(f"--vocab-size {self.vocab_size} is for --tokenizer bpe or byte-bpe")
        if self.init is not None:
            self.refuse_beside_init(self.init, *sizes)
