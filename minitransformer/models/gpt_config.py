"""The sizes and options of a GPT."""

from dataclasses import dataclass
from typing import Any

from minitransformer.errors import InputError
from minitransformer.models.config import Config
from minitransformer.models.transformer_parts import check_block_fields
from minitransformer.positions import require_scaling

POSITIONS = ("learned", "rotary", "alibi", "none")


@dataclass(frozen=True)
class GPTConfig(Config):
    """GPT-2 (124M) by default. `d_ff` is 4 · `d_model` unless given, `head_dim` d_model / num_heads, `attention_bias`
    as `bias`. Generation ends at `eos_id` or at one of `stop_ids`; without a prompt it starts from `bos_id`, by default
    `eos_id`.

    `rope_theta` and `rope_scaling` are the base and scaling of `Rotary`. With a `sliding_window` w a token sees itself
    and the w - 1 before it. `logit_softcap` c bounds the logits smoothly, c · tanh(logits / c) (Gemma 2, Riviere et
    al. 2024).
    """

    vocab_size: int = 50257
    max_length: int = 1024
    d_model: int = 768
    num_heads: int = 12
    num_kv_heads: int | None = None
    head_dim: int | None = None
    d_ff: int | None = None
    num_layers: int = 12
    positions: str = "learned"
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    sliding_window: int | None = None
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    activation: str = "gelu_tanh"
    bias: bool = True
    attention_bias: bool | None = None
    qk_norm: bool = False
    tie_output: bool = True
    logit_softcap: float | None = None
    dropout: float = 0.1
    attention_dropout: float | None = None
    eos_id: int = 50256
    stop_ids: tuple[int, ...] = ()
    bos_id: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_fields(self, POSITIONS)
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
