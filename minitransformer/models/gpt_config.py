"""The sizes and options of a GPT."""

from dataclasses import dataclass
from typing import Any, Literal

from minitransformer.activations import ActivationName
from minitransformer.errors import InputError
from minitransformer.models.config import Config
from minitransformer.models.transformer_parts import check_block_fields
from minitransformer.norms import NormName
from minitransformer.positions import require_scaling


@dataclass(frozen=True)
class GPTConfig(Config):
    """The sizes and options of a `GPT`. GPT-2 (124M) by default."""

    vocab_size: int = 50257
    """Tokens of the vocabulary."""
    max_length: int = 1024
    """The most tokens of its context."""
    d_model: int = 768
    """Width of the states."""
    num_heads: int = 12
    """Attention heads."""
    num_kv_heads: int | None = None
    """Heads of keys and values, which groups of query heads share. None: `num_heads`."""
    head_dim: int | None = None
    """Width of a head. None: d_model / num_heads."""
    d_ff: int | None = None
    """Width inside the feed-forward network. None: 4 · `d_model`."""
    num_layers: int = 12
    """Blocks."""
    positions: Literal["learned", "rotary", "alibi", "none"] = "learned"
    """learned: added to token vectors. The others act inside attention."""
    rope_theta: float = 10000.0
    """The base of the angles of `Rotary`."""
    rope_scaling: dict[str, Any] | None = None
    """The scaling of `Rotary`, as in Hugging Face's `config.json`."""
    sliding_window: int | None = None
    """w: a token sees itself and the w - 1 before it."""
    norm: NormName = "layernorm"
    """The norm of all layers."""
    norm_eps: float = 1e-5
    """Added to the variance in norms."""
    activation: ActivationName = "gelu_tanh"
    """Inside the feed-forward network."""
    bias: bool = True
    """Biases in linear layers and in norms."""
    attention_bias: bool | None = None
    """Biases in attention alone. None: `bias`."""
    qk_norm: bool = False
    """A norm over queries and keys, a head at a time."""
    tie_output: bool = True
    """The embedding is the output layer's weight."""
    logit_softcap: float | None = None
    """c: the logits are bounded smoothly, c · tanh(logits / c) (Gemma 2, Riviere et al. 2024)."""
    dropout: float = 0.1
    """On residuals and embeddings."""
    attention_dropout: float | None = None
    """On attention weights. None: `dropout`."""
    eos_id: int = None  # type: ignore[assignment]  # an id from `__post_init__` on
    """The token at which generation ends. None: the last of the vocabulary, `vocab_size` - 1."""
    stop_ids: tuple[int, ...] = ()
    """Further tokens at which generation ends."""
    bos_id: int | None = None
    """Where generation starts without a prompt. None: `eos_id`."""

    def __post_init__(self) -> None:
        if self.eos_id is None and isinstance(self.vocab_size, int):
            object.__setattr__(self, "eos_id", self.vocab_size - 1)
        super().__post_init__()
        check_block_fields(self)
        self.require_positive("vocab_size", "max_length", "num_layers", "logit_softcap")
        self.require_positive("head_dim", "rope_theta", "sliding_window")
        self.require_fraction("dropout")
        require_scaling(self.rope_scaling)
        if self.sliding_window is not None and self.positions == "learned":
            raise InputError(f"sliding_window={self.sliding_window}: learned positions start again when they run out")
        for name, ids in {"eos_id": [self.eos_id], "stop_ids": self.stop_ids, "bos_id": [self.bos_id]}.items():
            for each in ids:
                if each is not None:
                    self.require_ids(self.vocab_size, **{name: each})

    @classmethod
    def tiny(cls) -> "GPTConfig":
        """nanoGPT's setting for a CPU, over 65 characters."""
        return cls(vocab_size=65, max_length=64, d_model=128, num_heads=4, num_layers=4, eos_id=0, dropout=0.0)

    @classmethod
    def gpt2(cls) -> "GPTConfig":
        return cls()

    @classmethod
    def gpt2_medium(cls) -> "GPTConfig":
        return cls(d_model=1024, num_heads=16, num_layers=24)

    @classmethod
    def gpt2_large(cls) -> "GPTConfig":
        return cls(d_model=1280, num_heads=20, num_layers=36)

    @classmethod
    def gpt2_xl(cls) -> "GPTConfig":
        return cls(d_model=1600, num_heads=25, num_layers=48)
