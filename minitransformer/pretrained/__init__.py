"""Hugging Face checkpoints, read into our models and written from them: those of GPT-2, BERT, RoBERTa and ALBERT.

`folders` knows where a checkpoint lies and its files, `translation` how one becomes a model of ours and back; what an
architecture calls its settings and tensors has a file of its own. Names and layout are those of `transformers`.
"""

from minitransformer.pretrained.bert import BERTHubConfig
from minitransformer.pretrained.bert_family import ALBERTHubConfig, RoBERTaHubConfig, hub_class_of
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
