"""GPT: a causal model that predicts each next token (GPT-2: Radford et al. 2019)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.blocks import EncoderBlock, Stack
from minitransformer.errors import InputError
from minitransformer.models.base import Config, Loss, Memory, Model, target_loss
from minitransformer.models.transformer_parts import (
    attention_positions,
    block_options,
    check_block_fields,
    final_norm,
    padding_and_positions,
)
from minitransformer.positions import LearnedPositions

POSITIONS = ("learned", "rotary", "alibi", "none")


@dataclass(frozen=True)
class GPTConfig(Config):
    """GPT-2 (124M) by default. `d_ff` is 4 · `d_model` unless given.

    `logit_softcap` c bounds the logits smoothly, c · tanh(logits / c) (Gemma 2, Riviere et al. 2024).
    """

    vocab_size: int = 50257
    max_length: int = 1024
    d_model: int = 768
    num_heads: int = 12
    num_kv_heads: int | None = None
    d_ff: int | None = None
    num_layers: int = 12
    positions: str = "learned"
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    activation: str = "gelu_tanh"
    bias: bool = True
    qk_norm: bool = False
    tie_output: bool = True
    logit_softcap: float | None = None
    dropout: float = 0.1
    attention_dropout: float | None = None
    eos_id: int = 50256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_fields(self, POSITIONS)
        self.require_positive("vocab_size", "max_length", "num_layers", "logit_softcap")
        self.require_fraction("dropout")
        self.require_ids(self.vocab_size, eos_id=self.eos_id)

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


class GPT(Model):
    """Ids in, logits for the token after each of them out."""

    config_class = GPTConfig

    def __init__(self, config: GPTConfig):
        super().__init__()
        c = self.config = config
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.positions = LearnedPositions(c.max_length, c.d_model) if c.positions == "learned" else None
        self.dropout = nn.Dropout(c.dropout)
        scheme = attention_positions(c, bidirectional=False)
        blocks = [
            EncoderBlock(
                c.d_model,
                c.num_heads,
                c.d_ff or 4 * c.d_model,
                pre_norm=True,
                causal=True,
                positions=scheme,
                qk_norm=c.qk_norm,
                activation_dropout=0.0,  # GPT-2 has none inside its feed-forward
                **block_options(c),
            )
            for _ in range(c.num_layers)
        ]
        self.decoder = Stack(blocks, final_norm(c))
        self.output = nn.Linear(c.d_model, c.vocab_size, bias=False)
        if c.tie_output:
            self.output.weight = self.embedding.weight
        self.init_weights()

    def init_weights(self) -> None:
        """Matrices and embeddings N(0, 0.02), those that write to the residual stream divided by √(2 · layers);
        biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith(("project_out.weight", "contract.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.num_layers))
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, ids: Int[Tensor, "batch time"], valid: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch time vocab"]:
        """All of `ids` are real unless `valid` says otherwise."""
        return self._logits(self.encode(ids, valid).states)

    def encode(self, ids: Int[Tensor, "batch time"], valid: Bool[Tensor, "batch time"] | None = None) -> Memory:
        """Hidden states, in which no token has seen a later one."""
        if self.positions is not None and ids.shape[1] > self.config.max_length:
            raise InputError(f"{ids.shape[1]} tokens are more than the model's max_length={self.config.max_length}")
        mask, valid, position_ids = padding_and_positions(ids, valid)
        states = self.embedding(ids)
        if self.positions is not None:
            states = states + self.positions(position_ids)
        states = self.decoder(self.dropout(states), mask=mask, position_ids=position_ids)
        return Memory(states, valid)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """`batch` has `ids` (B, T), and `valid` (B, T) where they are padded: each token predicts the next real one."""
        is_target = self._is_target(batch)
        states = self.encode(batch["ids"][:, :-1], None if "valid" not in batch else batch["valid"][:, :-1]).states
        total = target_loss(self._logits(states[is_target]), batch["ids"][:, 1:][is_target])
        return {"lm": Loss(total, is_target.sum())}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"lm": self._is_target(batch).sum()}

    def _is_target(self, batch: dict[str, Tensor]) -> Tensor:
        """A token is a target where it is real and has a real one before it to predict it."""
        if "valid" not in batch:
            return torch.ones_like(batch["ids"][:, 1:], dtype=torch.bool)
        return batch["valid"][:, 1:] & batch["valid"][:, :-1]

    def _logits(self, states: Tensor) -> Tensor:
        logits, cap = self.output(states), self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)
