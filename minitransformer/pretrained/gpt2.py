"""GPT-2's settings and tensors as Hugging Face names them."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from minitransformer.pretrained.architecture import CausalHubConfig, TheirTensor

_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
_LAYER = {
    "attention_residual.norm": "ln_1",
    "attention.project_in": "attn.c_attn",  # query, key and value side by side, as ours
    "attention.project_out": "attn.c_proj",
    "feed_forward_residual.norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
}


@dataclass(frozen=True)
class GPT2HubConfig(CausalHubConfig):
    """`transformers.GPT2Config`. The linear layers c_... are its `Conv1D`, whose weights are (in, out)."""

    model_type: ClassVar[str] = "gpt2"
    title: ClassVar[str] = "GPT-2"
    prefix: ClassVar[str] = "transformer."
    ignored: ClassVar[str] = r"h\.\d+\.attn\.(masked_)?bias"  # the causal mask in older checkpoints
    same: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocab_size",
        "max_length": "n_positions",
        "d_model": "n_embd",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "d_ff": "n_inner",
        "activation": "activation_function",
        "dropout": "resid_pdrop",
        "attention_dropout": "attn_pdrop",
        "norm_eps": "layer_norm_epsilon",
        "tie_output": "tie_word_embeddings",
    }
    constants: ClassVar[Mapping[str, Any]] = {
        "positions": "learned",
        "norm": "layernorm",
        "bias": True,
        "qk_norm": False,
        "logit_softcap": None,
        "head_dim": None,
        "attention_bias": None,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "sliding_window": None,
    }
    only: ClassVar[Mapping[str, Any]] = {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    tie_word_embeddings: bool = True

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "GPT2HubConfig":
        return super().from_json({_ALIASES.get(name, name): value for name, value in settings.items()})

    @classmethod
    def _own_from_ours(cls, rest: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        return super()._own_from_ours(rest, settings) | {"embd_pdrop": settings["resid_pdrop"]}

    def _own_to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        if self.embd_pdrop != self.resid_pdrop:
            warnings.warn(
                f"if the model is trained further, its embeddings get the dropout resid_pdrop={self.resid_pdrop}, "
                f"not embd_pdrop={self.embd_pdrop}",
                stacklevel=5,
            )
        return super()._own_to_ours(tensors)

    def architecture(self, ours: Mapping[str, Any]) -> str:
        return "GPT2LMHeadModel"

    def tensors(self, ours: Mapping[str, Any], prefix: str) -> dict[str, TheirTensor]:
        modules = {"embedding": "wte", "positions.embedding": "wpe", "decoder.final_norm": "ln_f"}
        for i in range(self.n_layer):
            modules |= {f"decoder.layers.{i}.{mine}": f"h.{i}.{theirs}" for mine, theirs in _LAYER.items()}
        places = {}
        for mine, theirs in modules.items():
            places[f"{mine}.weight"] = TheirTensor((f"{prefix}{theirs}.weight",), transposed=".c_" in theirs)
            if not mine.endswith("embedding"):
                places[f"{mine}.bias"] = TheirTensor((f"{prefix}{theirs}.bias",))
        return places if self.tie_word_embeddings else places | {"output.weight": TheirTensor(("lm_head.weight",))}

    def copies(self, prefix: str) -> dict[str, str]:
        return {"lm_head.weight": f"{prefix}wte.weight"} if self.tie_word_embeddings else {}
