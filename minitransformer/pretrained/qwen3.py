"""Qwen3's settings and tensors as Hugging Face names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from minitransformer.errors import InputError
from minitransformer.pretrained.architecture import TheirTensor
from minitransformer.pretrained.llama import R, RotaryHubConfig
from minitransformer.untrusted import shown


@dataclass(frozen=True)
class Qwen3HubConfig(RotaryHubConfig):
    """`transformers.Qwen3Config`: queries and keys go through an RMSNorm with weights.

    Its feed-forward is gated, act(gate(x)) · up(x). With `hidden_act="relu"` and equal gate and up that is relu(x)²,
    so that a model with QK-norm and squared ReLU, the default of `train.pretrain gpt`, goes out as one of these.
    """

    model_type: ClassVar[str] = "qwen3"
    title: ClassVar[str] = "Qwen3"
    constants: ClassVar[Mapping[str, Any]] = {**RotaryHubConfig.constants, "qk_norm": True}
    only: ClassVar[Mapping[str, Any]] = {"use_sliding_window": False}
    activations: ClassVar[Mapping[str, str]] = {**RotaryHubConfig.activations, "relu": "relu_squared"}

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    head_dim: int | None = 128
    max_position_embeddings: int = 32768
    attention_bias: bool = False

    @classmethod
    def from_json(cls: type[R], settings: dict[str, Any]) -> R:
        kinds = settings.get("layer_types") or []
        if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
            raise InputError(f"layer_types={shown(kinds)}: only 'full_attention' is supported")
        return super().from_json(settings)

    def tensors(self, ours: Mapping[str, Any], prefix: str) -> dict[str, TheirTensor]:
        places = super().tensors(ours, prefix)
        if self.hidden_act != "relu":
            return places
        for mine, place in places.items():
            if mine.endswith("feed_forward.expand.weight"):
                gate, up = place.names
                places[mine] = TheirTensor((up,), again=(gate,))
        return places

    def _layer(self) -> dict[str, tuple[str, ...]]:
        norms = {"attention.query_norm": ("self_attn.q_norm",), "attention.key_norm": ("self_attn.k_norm",)}
        return super()._layer() | norms
