"""The flags of `python -m train.pretrain gpt`."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from minitransformer.checks import Count
from train.engine.presets import preset_flag
from train.pretrain.gpt.presets import PRESETS
from train.pretrain.settings import PretrainSettings


@dataclass(frozen=True)
class GPTSettings(PretrainSettings):
    """Pretrain a causal model. Its weights, `tokenizer.json` and figures go into the run folder.

    Trains for 2.5 minutes if neither --minutes nor --steps is given.
    """

    presets: ClassVar = PRESETS

    preset: Annotated[str | None, preset_flag(PRESETS, "A recipe by its name. Other flags overrule it.")] = None
    data: str = "shakespeare"
    """shakespeare, hub:NAME, or a path: a .txt file (its last tenth is validation), a table with a column text, a
    folder of train and validation files, any other folder, of which every .txt, .md and .py file is a text, or a glob
    of such files."""
    texts: Literal["alone", "stream"] | None = None
    """stream: all texts one after another, cut into windows of --context tokens. alone: several texts in a window, each
    predicted as if it were alone. Default: alone if nine in ten texts, of two or more, fit into --context."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] = "character"
    """Trained on the training text."""
    architecture: Literal["modern", "llama", "qwen3", "gpt2"] = "modern"
    """modern: rotary positions, RMSNorm, QK-norm, squared ReLU, no biases, output projections that start at zero.
    llama: with SwiGLU and without QK-norm. qwen3: with SwiGLU. All can be exported."""
    num_kv_heads: Count | None = None
    """Heads of keys and values. Default: as many as --num-heads."""
    batch_size: Count = 16
    """Windows of --context tokens in a batch."""

    sizes: ClassVar = (*PretrainSettings.sizes, "num_kv_heads")

    def validate(self) -> None:
        super().validate()
        if self.init is not None:
            self.refuse_idle(f"beside --init {self.init}", "tokenizer")
        if self.tokenizer == "character":
            self.refuse_idle("with --tokenizer character", "vocab_size")
