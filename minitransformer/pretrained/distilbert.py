"""DistilBERT's settings and tensors as Hugging Face names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from minitransformer.pretrained.architecture import TheirTensor
from minitransformer.pretrained.bert import BERTHubConfig

_NAMES = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}


@dataclass(frozen=True)
class DistilBERTHubConfig(BERTHubConfig):
    """`transformers.DistilBertConfig`, for reading alone: a BERT of six layers without segments and pooler (Sanh et al.
    2019). Its one segment is zeros here, so that it goes out as a BERT."""

    model_type: ClassVar[str] = "distilbert"
    prefix: ClassVar[str] = "distilbert."
    title: ClassVar[str] = "DistilBERT"
    head: ClassVar[str] = "vocab_"
    head_modules: ClassVar[Mapping[str, str]] = {"project": "transform", "norm": "layer_norm"}
    layer_modules: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention.project_in": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.project_out": ("attention.out_lin",),
        "attention_residual.norm": ("sa_layer_norm",),
        "feed_forward.expand": ("ffn.lin1",),
        "feed_forward.contract": ("ffn.lin2",),
        "feed_forward_residual.norm": ("output_layer_norm",),
    }

    num_hidden_layers: int = 6
    type_vocab_size: int = 1

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "DistilBERTHubConfig":
        return super().from_json({_NAMES.get(name, name): value for name, value in settings.items()})

    def tensors(self, ours: Mapping[str, Any], prefix: str) -> dict[str, TheirTensor]:
        places = super().tensors(ours, prefix) | {"segments.weight": TheirTensor(())}
        if "masked_head.output.bias" in places:
            places["masked_head.output.bias"] = TheirTensor(("vocab_projector.bias",))
        return places

    def _layers(self) -> dict[int, str]:
        return {i: f"transformer.layer.{i}." for i in range(self.num_hidden_layers)}

    def copies(self, prefix: str) -> dict[str, str]:
        return {"vocab_projector.weight": f"{prefix}embeddings.word_embeddings.weight"}
