"""Hugging Face checkpoints read into our models and written from them.

`folders` finds a checkpoint and reads its files, `conversion` turns one into a model of ours and back. `architecture`
says what the class of an architecture has; `gpt2`, `llama`, `qwen3` and `bert` map the names that these have in
`transformers` for settings and tensors to ours.
"""

from collections.abc import Mapping
from typing import Any

from minitransformer.pretrained.architecture import CausalHubConfig
from minitransformer.pretrained.bert import ALBERTHubConfig, BERTHubConfig, RoBERTaHubConfig
from minitransformer.pretrained.classifiers import export_classifier, is_classifier, read_head
from minitransformer.pretrained.conversion import architecture_of, export_pretrained, load_pretrained
from minitransformer.pretrained.distilbert import DistilBERTHubConfig
from minitransformer.pretrained.folders import checkpoint_folder
from minitransformer.pretrained.gpt2 import GPT2HubConfig
from minitransformer.pretrained.llama import ArceeHubConfig, LlamaHubConfig, MistralHubConfig
from minitransformer.pretrained.qwen3 import Qwen3HubConfig

__all__ = [
    "CAUSAL",
    "MASKED",
    "ALBERTHubConfig",
    "ArceeHubConfig",
    "BERTHubConfig",
    "DistilBERTHubConfig",
    "GPT2HubConfig",
    "LlamaHubConfig",
    "MistralHubConfig",
    "Qwen3HubConfig",
    "RoBERTaHubConfig",
    "architecture_of",
    "causal_class_of",
    "checkpoint_folder",
    "export_classifier",
    "export_pretrained",
    "hub_class_of",
    "is_classifier",
    "load_pretrained",
    "read_head",
]


CAUSAL = (GPT2HubConfig, LlamaHubConfig, Qwen3HubConfig, ArceeHubConfig, MistralHubConfig)
"""The architectures that `GPT` reads."""
MASKED = (BERTHubConfig, RoBERTaHubConfig, ALBERTHubConfig, DistilBERTHubConfig)
"""The architectures that `BERT` reads."""


def causal_class_of(ours: Mapping[str, Any]) -> type[CausalHubConfig]:
    """The architecture whose format is closest to our configuration of a GPT."""
    if ours["positions"] != "rotary":
        return GPT2HubConfig
    if ours["qk_norm"]:
        return Qwen3HubConfig
    if ours["sliding_window"] is not None:
        return MistralHubConfig
    return LlamaHubConfig if ours["activation"] == "swiglu" else ArceeHubConfig


def hub_class_of(ours: Mapping[str, Any]) -> type[BERTHubConfig]:
    """The architecture whose format is closest to our configuration of a BERT."""
    if ours["d_embedding"] is not None or ours["num_hidden_groups"] is not None or ours["sentence_head"] == "sop":
        return ALBERTHubConfig
    return RoBERTaHubConfig if ours["position_offset"] else BERTHubConfig
