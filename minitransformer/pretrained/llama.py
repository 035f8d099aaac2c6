"""Llama's settings and tensors as Hugging Face names them, and its relatives that differ in a setting or two."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from minitransformer.errors import InputError
from minitransformer.positions import ROPE_SCALINGS
from minitransformer.pretrained.architecture import ACTIVATIONS, CausalHubConfig, TheirTensor
from minitransformer.untrusted import shown

R = TypeVar("R", bound="RotaryHubConfig")


@dataclass(frozen=True)
class RotaryHubConfig(CausalHubConfig):
    """What Llama, Arcee, Mistral and Qwen3 share: rotary positions, RMSNorm and grouped heads.

    Rotary positions pair coordinate i with i + head_dim / 2 in these checkpoints and in `Rotary`, so queries and keys
    are read as they are. Meta's own files pair neighbours; the converter of `transformers` has permuted their rows.
    """

    prefix: ClassVar[str] = "model."
    ignored: ClassVar[str] = r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
    same: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocab_size",
        "max_length": "max_position_embeddings",
        "d_model": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "activation": "hidden_act",
        "attention_dropout": "attention_dropout",
        "norm_eps": "rms_norm_eps",
        "rope_theta": "rope_theta",
        "rope_scaling": "rope_scaling",
        "tie_output": "tie_word_embeddings",
    }
    constants: ClassVar[Mapping[str, Any]] = {
        "positions": "rotary",
        "norm": "rmsnorm",
        "bias": False,
        "qk_norm": False,
        "sliding_window": None,
        "dropout": 0.0,
        "logit_softcap": None,
    }
    only: ClassVar[Mapping[str, Any]] = {}
    activations: ClassVar[Mapping[str, str]] = {"silu": "swiglu", "swish": "swiglu"}
    gated: ClassVar[bool] = True
    even_heads: ClassVar[bool] = False
    """Whether `transformers` asks for a width that the number of heads divides, even beside a `head_dim`."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    tie_word_embeddings: bool = False

    @classmethod
    def from_json(cls: type[R], settings: dict[str, Any]) -> R:
        """Version 5 of `transformers` writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`."""
        theta, scaling = _rope(settings)
        theirs = super().from_json(settings | {"rope_theta": theta, "rope_scaling": scaling})
        heads, width = theirs.num_attention_heads, theirs.hidden_size
        if theirs.head_dim is None and (heads < 1 or width % heads):
            raise InputError(f"hidden_size={width} is not divisible by num_attention_heads={heads}: give a head_dim")
        kv_heads, head_dim = theirs.num_key_value_heads or heads, theirs.head_dim or width // heads
        return replace(theirs, num_key_value_heads=kv_heads, head_dim=head_dim)

    @classmethod
    def _own_from_ours(cls, rest: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        width, heads = settings["hidden_size"], settings["num_attention_heads"]
        own = super()._own_from_ours(rest, settings)
        own |= {
            "num_key_value_heads": rest.pop("num_kv_heads", None) or heads,
            "intermediate_size": rest.pop("d_ff") or 4 * width,
        }
        if not (cls.even_heads and width % heads):
            own["head_dim"] = rest.pop("head_dim") or width // heads
        if rest["dropout"]:
            lost = f"has no dropout but in attention: dropout={rest.pop('dropout')} is left out"
            warnings.warn(f"{cls.title}'s format {lost}", stacklevel=6)
        attention_bias = rest.pop("attention_bias")
        attention_bias = rest["bias"] if attention_bias is None else attention_bias
        names = cls.__dataclass_fields__
        if "attention_bias" in names:
            own["attention_bias"] = attention_bias
        elif attention_bias:
            rest["attention_bias"] = True
        if "mlp_bias" in names:
            own["mlp_bias"] = rest.pop("bias")
        return own

    def _own_to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        heads, width = self.num_attention_heads, self.hidden_size
        bias, attention_bias = (getattr(self, name, False) for name in ("mlp_bias", "attention_bias"))
        return super()._own_to_ours(tensors) | {
            "num_kv_heads": None if self.num_key_value_heads == heads else self.num_key_value_heads,
            "head_dim": None if self.head_dim is not None and self.head_dim * heads == width else self.head_dim,
            "d_ff": None if self.intermediate_size == 4 * width else self.intermediate_size,
            "bias": bias,
            "attention_bias": None if attention_bias == bias else attention_bias,
        }

    def architecture(self, ours: Mapping[str, Any]) -> str:
        return f"{self.title}ForCausalLM"

    def tensors(self, ours: Mapping[str, Any], prefix: str) -> dict[str, TheirTensor]:
        heads = self.num_attention_heads, self.num_key_value_heads or self.num_attention_heads
        biases = {"self_attn.": getattr(self, "attention_bias", False), "mlp.": getattr(self, "mlp_bias", False)}
        places = {
            "embedding.weight": TheirTensor((f"{prefix}embed_tokens.weight",)),
            "decoder.final_norm.weight": TheirTensor((f"{prefix}norm.weight",)),
        }
        for i in range(self.num_hidden_layers):
            for mine, names in self._layer().items():
                biased = any(names[0].startswith(part) and given for part, given in biases.items())
                shares = (heads[0], heads[1], heads[1]) if len(names) == 3 else ()
                for kind in ("weight", "bias") if biased and "norm" not in names[0] else ("weight",):
                    theirs = tuple(f"{prefix}layers.{i}.{name}.{kind}" for name in names)
                    places[f"decoder.layers.{i}.{mine}.{kind}"] = TheirTensor(theirs, shares=shares)
        return places if self.tie_word_embeddings else places | {"output.weight": TheirTensor(("lm_head.weight",))}

    def _layer(self) -> dict[str, tuple[str, ...]]:
        return {
            "attention_residual.norm": ("input_layernorm",),
            "attention.project_in": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "attention.project_out": ("self_attn.o_proj",),
            "feed_forward_residual.norm": ("post_attention_layernorm",),
            "feed_forward.expand": ("mlp.gate_proj", "mlp.up_proj") if self.gated else ("mlp.up_proj",),
            "feed_forward.contract": ("mlp.down_proj",),
        }

    def copies(self, prefix: str) -> dict[str, str]:
        return {"lm_head.weight": f"{prefix}embed_tokens.weight"} if self.tie_word_embeddings else {}


@dataclass(frozen=True)
class LlamaHubConfig(RotaryHubConfig):
    """`transformers.LlamaConfig`: Llama 1 to 3, SmolLM, SmolLM2, TinyLlama and others of its shape."""

    model_type: ClassVar[str] = "llama"
    title: ClassVar[str] = "Llama"
    even_heads: ClassVar[bool] = True

    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    attention_bias: bool = False
    mlp_bias: bool = False


@dataclass(frozen=True)
class ArceeHubConfig(LlamaHubConfig):
    """`transformers.ArceeConfig`: a Llama whose feed-forward is two layers with an activation, usually relu(x)²."""

    model_type: ClassVar[str] = "arcee"
    title: ClassVar[str] = "Arcee"
    activations: ClassVar[Mapping[str, str]] = {"relu2": "relu_squared", **ACTIVATIONS}
    gated: ClassVar[bool] = False

    hidden_size: int = 2560
    intermediate_size: int = 18432
    hidden_act: str = "relu2"
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001


@dataclass(frozen=True)
class MistralHubConfig(RotaryHubConfig):
    """`transformers.MistralConfig`: a Llama without biases, in which a token sees a window of the tokens before it."""

    model_type: ClassVar[str] = "mistral"
    title: ClassVar[str] = "Mistral"
    same: ClassVar[Mapping[str, str]] = {**RotaryHubConfig.same, "sliding_window": "sliding_window"}
    constants: ClassVar[Mapping[str, Any]] = {
        name: value for name, value in RotaryHubConfig.constants.items() if name != "sliding_window"
    }

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 4096 * 32
    sliding_window: int | None = 4096
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


def _rope(settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """The base and the scaling of rotary positions. `InputError` names a type or an option that `Rotary` lacks."""
    field = "rope_parameters" if settings.get("rope_parameters") else "rope_scaling"
    rope = settings.get(field) or {}
    if not isinstance(rope, dict):
        raise InputError(f"{field}={shown(rope)} must be an object")
    rope = {name: value for name, value in rope.items() if value is not None}
    theta = rope.pop("rope_theta", settings.get("rope_theta", 10000.0))
    old_name = rope.pop("type", "default")
    kind = rope.pop("rope_type", old_name)
    if kind != "default" and (not isinstance(kind, str) or kind not in ROPE_SCALINGS):
        raise InputError(f"{field}: rope_type={shown(kind)} must be one of default, {', '.join(ROPE_SCALINGS)}")
    for source in (rope, settings):
        if source.get("partial_rotary_factor", 1.0) not in (1.0, None):
            raise InputError(f"partial_rotary_factor={shown(source['partial_rotary_factor'])}: only 1.0 is supported")
    rope.pop("partial_rotary_factor", None)
    if kind == "llama3":
        rope.setdefault("original_max_position_embeddings", settings.get("max_position_embeddings"))
    else:
        rope.pop("original_max_position_embeddings", None)  # has no effect
    needed = ROPE_SCALINGS.get(kind, ())
    if unknown := {name: value for name, value in rope.items() if name not in needed}:
        raise InputError(f"{field} of rope_type={kind!r} has {shown(unknown)}, which is not computed here")
    return theta, None if kind == "default" else {"rope_type": kind, **rope}
