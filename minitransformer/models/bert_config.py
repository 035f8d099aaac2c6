"""The sizes of BERT, and those that are published."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from minitransformer.activations import ActivationName
from minitransformer.checks import require_number
from minitransformer.errors import InputError
from minitransformer.models.config import Config
from minitransformer.models.transformer_parts import check_block_fields
from minitransformer.norms import NormName

IDS_IN_ORDER: dict[str, Any] = {"cls_id": 2, "sep_id": 3, "mask_id": 4}
"""The special tokens of a vocabulary that begins with [PAD] [UNK] [CLS] [SEP] [MASK]."""

SentenceTask = Literal["nsp", "sop"]


@dataclass(frozen=True)
class BERTConfig(Config):
    """The sizes and options of a `BERT`. BERT (base, uncased) by default."""

    vocab_size: int = 30522
    """Tokens of the vocabulary."""
    max_length: int = 512
    """The most tokens that it reads."""
    d_model: int = 768
    """Width of the states."""
    num_heads: int = 12
    """Attention heads."""
    num_kv_heads: int | None = None
    """Heads of keys and values, which groups of query heads share. None: `num_heads`."""
    num_layers: int = 12
    """Blocks."""
    d_ff: int | None = None
    """Width inside the feed-forward network. None: 4 · `d_model`."""
    d_embedding: int | None = None
    """Width of the token vectors, which a linear layer widens (ALBERT). None: `d_model`."""
    num_hidden_groups: int | None = None
    """Groups of neighbouring layers that share their parameters (ALBERT). None: every layer has its own."""
    num_segments: int = 2
    """Kinds of segments. 1: none."""
    position_offset: int = 0
    """The number of the first position. RoBERTa: 2."""
    positions: Literal["learned", "rotary"] = "learned"
    """learned: added to token vectors. rotary: inside attention."""
    pre_norm: bool = False
    """Norms before the sublayers, not after the residual sums."""
    norm: NormName = "layernorm"
    """The norm of all layers."""
    norm_eps: float = 1e-12
    """Added to the variance in norms."""
    activation: ActivationName = "gelu"
    """Inside the feed-forward network."""
    bias: bool = True
    """Biases in linear layers and in norms."""
    qk_norm: bool = False
    """A norm over queries and keys, a head at a time."""
    dropout: float = 0.1
    """On residuals and embeddings."""
    attention_dropout: float | None = None
    """On attention weights. None: `dropout`."""
    pooler: bool = True
    """A dense layer over the first state."""
    sentence_head: SentenceTask | None = "nsp"
    """nsp: does the second sentence follow the first? sop: are the two in order?"""
    masked_head: bool = True
    """A head that predicts masked tokens."""
    pad_id: int = 0
    """The token that fills rows up."""
    cls_id: int = 101
    """The first token of a row."""
    sep_id: int = 102
    """The token after each text."""
    mask_id: int = 103
    """The token that covers others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_block_fields(self)
        self.require_positive(
            "vocab_size", "max_length", "num_layers", "d_embedding", "num_hidden_groups", "num_segments"
        )
        if self.num_hidden_groups is not None:
            self.require_multiple("num_layers", "num_hidden_groups")
        self.require_fraction("dropout")
        require_number("position_offset", self.position_offset, at_least=0)
        if self.sentence_head is not None and not self.pooler:
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
