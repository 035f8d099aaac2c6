"""GPT-2's settings and tensors as Hugging Face names them."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from minitransformer.errors import InputError
from minitransformer.pretrained.conversion import HubConfig, TheirTensor

_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
_FIELDS = {
    "vocab_size": "vocab_size",
    "max_length": "n_positions",
    "d_model": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "d_ff": "n_inner",
    "dropout": "resid_pdrop",
    "norm_eps": "layer_norm_epsilon",
    "eos_id": "eos_token_id",
    "tie_output": "tie_word_embeddings",
}
_CONSTANTS = {"positions": "learned", "norm": "layernorm", "bias": True, "qk_norm": False, "logit_softcap": None}
"""Fields of ours that have the same value in every GPT-2."""
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
_LAYER = {
    "attention_residual.norm": "ln_1",
    "attention.project_in": "attn.c_attn",  # query, key and value side by side, as ours
    "attention.project_out": "attn.c_proj",
    "feed_forward_residual.norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
}


@dataclass(frozen=True)
class GPT2HubConfig(HubConfig):
    """`transformers.GPT2Config`. The linear layers c_... are its `Conv1D`, whose weights are (in, out)."""

    model_type: ClassVar[str] = "gpt2"
    prefix: ClassVar[str] = "transformer."
    ignored: ClassVar[str] = r"h\.\d+\.attn\.(masked_)?bias"  # the causal mask in older checkpoints
    generates: ClassVar[bool] = True

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
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int = 50256
    tie_word_embeddings: bool = True

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "GPT2HubConfig":
        return super().from_json({_ALIASES.get(name, name): value for name, value in settings.items()})

    @classmethod
    def from_ours(cls, ours: dict[str, Any]) -> "GPT2HubConfig":
        rest = dict(ours)
        settings = {theirs: rest.pop(name) for name, theirs in _FIELDS.items()}
        attention_dropout = rest.pop("attention_dropout")
        if rest["activation"] in _ACTIVATIONS.values():
            activation = rest.pop("activation")
            # Of several names for the same function, the first is known to every version of `transformers`.
            settings["activation_function"] = next(
                theirs for theirs, name in _ACTIVATIONS.items() if name == activation
            )
        if rest["num_kv_heads"] in (None, settings["n_head"]):
            del rest["num_kv_heads"]
        # This refuses fields that are added to our configuration and unknown to this file, too.
        if foreign := [f"{k}={v!r}" for k, v in rest.items() if k not in _CONSTANTS or v != _CONSTANTS[k]]:
            raise InputError(f"GPT-2's format cannot express {', '.join(foreign)}: keep the model with save")
        return cls(
            **settings,
            embd_pdrop=settings["resid_pdrop"],
            attn_pdrop=settings["resid_pdrop"] if attention_dropout is None else attention_dropout,
            bos_token_id=settings["eos_token_id"],  # without a prompt, text starts after an end-of-text
        )

    def architecture(self, ours: Mapping[str, Any]) -> str:
        return "GPT2LMHeadModel"

    def to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        defaults = type(self)()
        for name in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention"):
            if getattr(self, name) != getattr(defaults, name):
                raise InputError(f"{name}={getattr(self, name)}: only {getattr(defaults, name)} is supported")
        if self.activation_function not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise InputError(f"activation_function={self.activation_function!r} is none of {known}")
        if not 0 <= self.eos_token_id < self.vocab_size:
            raise InputError(
                f"eos_token_id={self.eos_token_id} is no id in a vocabulary of {self.vocab_size}: "
                "set it in config.json to the id of the token that ends a text"
            )
        if self.embd_pdrop != self.resid_pdrop:
            warnings.warn(
                f"if the model is trained further, its embeddings get the dropout resid_pdrop={self.resid_pdrop}, "
                f"not embd_pdrop={self.embd_pdrop}",
                stacklevel=4,
            )
        return {
            **{ours: getattr(self, theirs) for ours, theirs in _FIELDS.items()},
            **_CONSTANTS,
            "activation": _ACTIVATIONS[self.activation_function],
            "attention_dropout": None if self.attn_pdrop == self.resid_pdrop else self.attn_pdrop,
        }

    def tensors(self, ours: Mapping[str, Any]) -> dict[str, TheirTensor]:
        modules = {"embedding": "wte", "positions.embedding": "wpe", "decoder.final_norm": "ln_f"}
        for i in range(self.n_layer):
            modules |= {f"decoder.layers.{i}.{mine}": f"h.{i}.{theirs}" for mine, theirs in _LAYER.items()}
        places = {}
        for mine, theirs in modules.items():
            places[f"{mine}.weight"] = TheirTensor((f"{self.prefix}{theirs}.weight",), transposed=".c_" in theirs)
            if not mine.endswith("embedding"):
                places[f"{mine}.bias"] = TheirTensor((f"{self.prefix}{theirs}.bias",))
        return places if self.tie_word_embeddings else places | {"output.weight": TheirTensor(("lm_head.weight",))}

    def copies(self) -> dict[str, str]:
        return {"lm_head.weight": f"{self.prefix}wte.weight"} if self.tie_word_embeddings else {}
