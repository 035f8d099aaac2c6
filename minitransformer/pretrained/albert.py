"""ALBERT's settings and tensors as Hugging Face names them, where they differ from BERT's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from minitransformer.pretrained.bert import BERTHubConfig


@dataclass(frozen=True)
class ALBERTHubConfig(BERTHubConfig):
    """`transformers.AlbertConfig`: a factorised embedding, and groups of layers that share their parameters."""

    model_type: ClassVar[str] = "albert"
    prefix: ClassVar[str] = "albert."
    title: ClassVar[str] = "ALBERT"
    architectures: ClassVar[tuple[str, str, str]] = ("AlbertForPreTraining", "AlbertForMaskedLM", "AlbertModel")
    sentence_task: ClassVar[str | None] = "sop"
    head: ClassVar[str] = "predictions."
    head_modules: ClassVar[Mapping[str, str]] = {"project": "dense", "norm": "LayerNorm"}
    sentence_module: ClassVar[str] = "sop_classifier.classifier"
    pooler_module: ClassVar[str] = "pooler"
    layer_modules: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention.project_in": ("attention.query", "attention.key", "attention.value"),
        "attention.project_out": ("attention.dense",),
        "attention_residual.norm": ("attention.LayerNorm",),
        "feed_forward.expand": ("ffn",),
        "feed_forward.contract": ("ffn_output",),
        "feed_forward_residual.norm": ("full_layer_layer_norm",),
    }

    vocab_size: int = 30000
    embedding_size: int = 128
    hidden_size: int = 4096
    num_hidden_groups: int = 1
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    cls_token_id: int = 2
    sep_token_id: int = 3
    mask_token_id: int = 4
    bos_token_id: int | None = 2
    eos_token_id: int | None = 3

    @classmethod
    def _own_from_ours(cls, rest: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        own = {"num_hidden_groups": rest.pop("num_hidden_groups") or settings["num_hidden_layers"]}
        return own | ({} if rest["d_embedding"] is None else {"embedding_size": rest.pop("d_embedding")})

    def to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        sizes = {"d_embedding": self.embedding_size, "num_hidden_groups": self.num_hidden_groups}
        return super().to_ours(tensors) | sizes

    def _layers(self) -> dict[int, str]:
        span = self.num_hidden_layers // self.num_hidden_groups
        groups = range(self.num_hidden_groups)
        return {group * span: f"encoder.albert_layer_groups.{group}.albert_layers.0." for group in groups}

    def _own_modules(self) -> dict[str, tuple[str, ...]]:
        return {"widen": (f"{self.prefix}encoder.embedding_hidden_mapping_in",)}
