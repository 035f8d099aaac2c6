"""The sizes of BERT, and those that are published."""

from dataclasses import dataclass, replace
from typing import Any

from minitransformer.checks import require_number
from minitransformer.errors import InputError
from minitransformer.models.config import Config
from minitransformer.models.transformer_parts import check_block_fields

POSITIONS = ("learned", "rotary")
SENTENCE_HEADS = ("nsp", "sop")
IDS_IN_ORDER: dict[str, Any] = {"cls_id": 2, "sep_id": 3, "mask_id": 4}
"""The special tokens of a vocabulary that begins with [PAD] [UNK] [CLS] [SEP] [MASK]."""


@dataclass(frozen=True)
class BERTConfig(Config):
    """BERT (base, uncased) by default. `d_ff` defaults to 4 · `d_model`.

    `sentence_head` is "nsp" (does the second sentence follow the first?), "sop" (are the two in order?) or None.
    ALBERT has token vectors of width `d_embedding`, which a linear layer widens, and `num_hidden_groups` groups of
    neighbouring layers that share their parameters (None: every layer has its own). RoBERTa counts positions from
    `position_offset`, and has one segment and no sentence head.
    """

    vocab_size: int = 30522
    max_length: int = 512
    d_model: int = 768
    num_heads: int = 12
    num_kv_heads: int | None = None
    num_layers: int = 12
    d_ff: int | None = None
    d_embedding: int | None = None
    num_hidden_groups: int | None = None
    num_segments: int = 2
    position_offset: int = 0
    positions: str = "learned"
    pre_norm: bool = False
    norm: str = "layernorm"
    norm_eps: float = 1e-12
    activation: str = "gelu"
    bias: bool = True
    qk_norm: bool = False
    dropout: float = 0.1
    attention_dropout: float | None = None
    pooler: bool = True
    sentence_head: str | None = "nsp"
    masked_head: bool = True
    pad_id: int = 0
    cls_id: int = 101
    sep_id: int = 102
    mask_id: int = 103

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_fields(self, POSITIONS)
        self.require_positive(
            "vocab_size", "max_length", "num_layers", "d_embedding", "num_hidden_groups", "num_segments"
        )
        if self.num_hidden_groups is not None:
            self.require_multiple("num_layers", "num_hidden_groups")
        self.require_fraction("dropout")
        require_number("position_offset", self.position_offset, at_least=0)
        if self.sentence_head is not None:
            self.require_one_of("sentence_head", SENTENCE_HEADS)
            if not self.pooler:
                raise InputError(f"sentence_head={self.sentence_head!r} reads the pooler: pooler=False leaves it none")
        self.require_ids(
            self.vocab_size, pad_id=self.pad_id, cls_id=self.cls_id, sep_id=self.sep_id, mask_id=self.mask_id
        )

    @classmethod
    def tiny(cls) -> "BERTConfig":
        """For a few megabytes of text and a vocabulary that begins with [PAD] [UNK] [CLS] [SEP] [MASK]."""
        sizes: dict[str, Any] = {"vocab_size": 4000, "max_length": 128, "d_model": 128, "num_heads": 4, "num_layers": 4}
        return cls(**sizes, dropout=0.0, **IDS_IN_ORDER)

    @classmethod
    def bert_base(cls) -> "BERTConfig":
        return cls()

    @classmethod
    def bert_large(cls) -> "BERTConfig":
        return cls(d_model=1024, num_heads=16, num_layers=24)

    @classmethod
    def roberta_base(cls) -> "BERTConfig":
        heads: dict[str, Any] = {"num_segments": 1, "pooler": False, "sentence_head": None}
        ids: dict[str, Any] = {"pad_id": 1, "cls_id": 0, "sep_id": 2, "mask_id": 50264}
        return cls(vocab_size=50265, position_offset=2, norm_eps=1e-5, **heads, **ids)

    @classmethod
    def albert_base(cls) -> "BERTConfig":
        """Without dropout, as the second version of the published checkpoints."""
        sizes: dict[str, Any] = {"vocab_size": 30000, "d_embedding": 128, "num_hidden_groups": 1}
        return cls(**sizes, activation="gelu_tanh", dropout=0.0, sentence_head="sop", **IDS_IN_ORDER)

    @classmethod
    def albert_xxlarge(cls) -> "BERTConfig":
        return replace(cls.albert_base(), d_model=4096, num_heads=64)
