"""The settings and tensors of BERT, RoBERTa and ALBERT as Hugging Face names them."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, TypeVar

from minitransformer.pretrained.architecture import HubConfig, TheirTensor

B = TypeVar("B", bound="BERTHubConfig")

CONSTANTS = {"positions": "learned", "norm": "layernorm", "bias": True, "qk_norm": False, "pre_norm": False}
"""Fields of our configuration that have one value in every BERT, RoBERTa and ALBERT."""


@dataclass(frozen=True)
class BERTHubConfig(HubConfig):
    """`transformers.BertConfig`, with the ids of special tokens, which it leaves to the tokenizer.

    The model has a pooler if the checkpoint has one. A checkpoint without a masked-token head gets a new one. One with
    a pooler gets a new sentence head, unless it has a masked-token head: then it was trained without a sentence head.
    """

    model_type: ClassVar[str] = "bert"
    prefix: ClassVar[str] = "bert."
    ignored: ClassVar[str] = r"embeddings\.(position_ids|token_type_ids)"
    generates: ClassVar[bool] = False
    same: ClassVar[Mapping[str, str]] = {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "num_segments": "type_vocab_size",
        "norm_eps": "layer_norm_eps",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "pad_id": "pad_token_id",
        "cls_id": "cls_token_id",
        "sep_id": "sep_token_id",
        "mask_id": "mask_token_id",
    }
    constants: ClassVar[Mapping[str, Any]] = CONSTANTS | {"d_embedding": None, "num_hidden_groups": None}
    only: ClassVar[Mapping[str, Any]] = {
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
        "inner_group_num": 1,
    }
    heads: ClassVar[Mapping[str, str]] = {"masked_head.": "masked-token head", "sentence_head.": "sentence head"}
    special_tokens: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "cls_token_id": ("[CLS]", "<s>"),
        "sep_token_id": ("[SEP]", "</s>"),
        "mask_token_id": ("[MASK]", "<mask>"),
    }
    title: ClassVar[str] = "BERT"
    architectures: ClassVar[tuple[str, str, str]] = ("BertForPreTraining", "BertForMaskedLM", "BertModel")
    """The class for a model with both heads, without a sentence head, and without either."""
    sentence_task: ClassVar[str | None] = "nsp"
    head: ClassVar[str] = "cls.predictions."
    head_modules: ClassVar[Mapping[str, str]] = {"project": "transform.dense", "norm": "transform.LayerNorm"}
    sentence_module: ClassVar[str] = "cls.seq_relationship"
    pooler_module: ClassVar[str] = "pooler.dense"
    layer_modules: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention.project_in": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.project_out": ("attention.output.dense",),
        "attention_residual.norm": ("attention.output.LayerNorm",),
        "feed_forward.expand": ("intermediate.dense",),
        "feed_forward.contract": ("output.dense",),
        "feed_forward_residual.norm": ("output.LayerNorm",),
    }

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    cls_token_id: int = 101
    sep_token_id: int = 102
    mask_token_id: int = 103
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    @classmethod
    def from_json(cls: type[B], settings: dict[str, Any]) -> B:
        """Missing ids of special tokens are the usual ones, or, with a warning, the last of a smaller vocabulary."""
        usual = {name: getattr(cls, name) for name in cls.special_tokens}
        ids = {name: settings[name] for name in usual if settings.get(name) is not None}
        vocab_size, pad_id = settings.get("vocab_size", cls.vocab_size), settings.get("pad_token_id", cls.pad_token_id)
        guessed = {}
        for name in [name for name in usual if name not in ids] if isinstance(vocab_size, int) else ():
            free = (i for i in chain([usual[name]], range(vocab_size - 1, -1, -1)) if i < vocab_size)
            ids[name] = next((i for i in free if i not in (pad_id, *ids.values())), 0)
            if ids[name] != usual[name]:
                guessed[name] = ids[name]
        if guessed:
            which = ", ".join(f"{name}={id}" for name, id in guessed.items())
            warnings.warn(f"neither config.json nor a tokenizer.json gives {which}: a guess", stacklevel=4)
        return super().from_json(settings | ids)

    @classmethod
    def _own_from_ours(cls, rest: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        offset = cls._offset(settings["pad_token_id"])
        expressible = {
            "position_offset": (offset,),
            "pooler": (True, False),
            "masked_head": (True, False),
            "sentence_head": (None, cls.sentence_task),
        }
        own = {
            "max_position_embeddings": rest.pop("max_length") + offset,
            "intermediate_size": rest.pop("d_ff") or 4 * settings["hidden_size"],
        }
        for name, values in expressible.items():
            if rest[name] in values:
                del rest[name]
        if cls.bos_token_id is not None:
            own |= {"bos_token_id": settings["cls_token_id"], "eos_token_id": settings["sep_token_id"]}
        return own

    @classmethod
    def _offset(cls, pad_id: int) -> int:
        """The row of the first token in the table of positions."""
        return 0

    def _own_to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        pooler = any(name.removeprefix(self.prefix).startswith("pooler.") for name in tensors)
        tokens = any(name.startswith(self.head) for name in tensors)
        sentence = any(name.startswith(self.sentence_module) for name in tensors)
        offset = self._offset(self.pad_token_id)
        return {
            "max_length": self.max_length(),
            "position_offset": offset,
            "d_ff": None if self.intermediate_size == 4 * self.hidden_size else self.intermediate_size,
            "pooler": pooler,
            "sentence_head": self.sentence_task if pooler and (sentence or not tokens) else None,
        }

    def max_length(self) -> int:
        return self.max_position_embeddings - self._offset(self.pad_token_id)

    def architecture(self, ours: Mapping[str, Any]) -> str:
        both, tokens, neither = self.architectures
        return both if ours["sentence_head"] is not None else tokens if ours["masked_head"] else neither

    def tensors(self, ours: Mapping[str, Any], prefix: str) -> dict[str, TheirTensor]:
        tables = {"embedding": "word", "positions.embedding": "position", "segments": "token_type"}
        places = {
            f"{mine}.weight": TheirTensor((f"{prefix}embeddings.{theirs}_embeddings.weight",))
            for mine, theirs in tables.items()
        }
        modules: dict[str, tuple[str, ...]] = {"embedding_norm": (f"{prefix}embeddings.LayerNorm",)}
        for i, place in self._layers().items():
            for mine, names in self.layer_modules.items():
                modules[f"encoder.layers.{i}.{mine}"] = tuple(f"{prefix}{place}{name}" for name in names)
        if ours["d_embedding"] is not None:
            modules["widen"] = (f"{prefix}encoder.embedding_hidden_mapping_in",)
        if ours["pooler"]:
            modules["pooler"] = (prefix + self.pooler_module,)
        if ours["masked_head"]:
            modules |= {f"masked_head.{mine}": (self.head + name,) for mine, name in self.head_modules.items()}
            places["masked_head.output.bias"] = TheirTensor((f"{self.head}bias",))
        if ours["sentence_head"] is not None:
            modules["sentence_head"] = (self.sentence_module,)
        for mine, names in modules.items():
            for kind in ("weight", "bias"):
                places[f"{mine}.{kind}"] = TheirTensor(tuple(f"{name}.{kind}" for name in names))
        return places

    def _layers(self) -> dict[int, str]:
        """The checkpoint's names of the layers that have parameters of their own."""
        return {i: f"encoder.layer.{i}." for i in range(self.num_hidden_layers)}

    def copies(self, prefix: str) -> dict[str, str]:
        return {
            f"{self.head}decoder.weight": f"{prefix}embeddings.word_embeddings.weight",
            f"{self.head}decoder.bias": f"{self.head}bias",
        }


@dataclass(frozen=True)
class RoBERTaHubConfig(BERTHubConfig):
    """`transformers.RobertaConfig`: positions begin at `pad_token_id + 1`; the beginning and end of a text serve as
    [CLS] and [SEP]."""

    model_type: ClassVar[str] = "roberta"
    prefix: ClassVar[str] = "roberta."
    title: ClassVar[str] = "RoBERTa"
    architectures: ClassVar[tuple[str, str, str]] = ("RobertaForMaskedLM", "RobertaForMaskedLM", "RobertaModel")
    sentence_task: ClassVar[str | None] = None
    head: ClassVar[str] = "lm_head."
    head_modules: ClassVar[Mapping[str, str]] = {"project": "dense", "norm": "layer_norm"}
    sentence_module: ClassVar[str] = "sentence_head"

    vocab_size: int = 50265
    pad_token_id: int = 1
    cls_token_id: int = 0
    sep_token_id: int = 2
    mask_token_id: int = 50264
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2

    @classmethod
    def _offset(cls, pad_id: int) -> int:
        return pad_id + 1


@dataclass(frozen=True)
class ALBERTHubConfig(BERTHubConfig):
    """`transformers.AlbertConfig`: a factorised embedding, and groups of layers that share their parameters."""

    model_type: ClassVar[str] = "albert"
    prefix: ClassVar[str] = "albert."
    title: ClassVar[str] = "ALBERT"
    architectures: ClassVar[tuple[str, str, str]] = ("AlbertForPreTraining", "AlbertForMaskedLM", "AlbertModel")
    constants: ClassVar[Mapping[str, Any]] = CONSTANTS
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
        if rest["d_embedding"] is not None:
            own["embedding_size"] = rest.pop("d_embedding")
        return super()._own_from_ours(rest, settings) | own

    def _own_to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        sizes = {"d_embedding": self.embedding_size, "num_hidden_groups": self.num_hidden_groups}
        return super()._own_to_ours(tensors) | sizes

    def _layers(self) -> dict[int, str]:
        span = self.num_hidden_layers // self.num_hidden_groups
        groups = range(self.num_hidden_groups)
        return {group * span: f"encoder.albert_layer_groups.{group}.albert_layers.0." for group in groups}
