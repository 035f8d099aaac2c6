"""Hugging Face checkpoints read into our models and written from them: GPT-2, BERT, RoBERTa and ALBERT.

`folders` finds a checkpoint and reads its files, `conversion` turns one into a model of ours and back, and `gpt2` and
`bert` map the names that these architectures have in `transformers` for settings and tensors to ours.
"""

from collections.abc import Mapping
from typing import Any

from minitransformer.pretrained.bert import ALBERTHubConfig, BERTHubConfig, RoBERTaHubConfig
from minitransformer.pretrained.conversion import export_pretrained, load_pretrained
from minitransformer.pretrained.folders import checkpoint_folder
from minitransformer.pretrained.gpt2 import GPT2HubConfig

__all__ = [
    "ALBERTHubConfig",
    "BERTHubConfig",
    "GPT2HubConfig",
    "RoBERTaHubConfig",
    "checkpoint_folder",
    "export_pretrained",
    "hub_class_of",
    "load_pretrained",
]


def hub_class_of(ours: Mapping[str, Any]) -> type[BERTHubConfig]:
    """The architecture whose format is closest to our configuration of a BERT."""
    if ours["d_embedding"] is not None or ours["num_hidden_groups"] is not None or ours["sentence_head"] == "sop":
        return ALBERTHubConfig
    return RoBERTaHubConfig if ours["position_offset"] else BERTHubConfig
