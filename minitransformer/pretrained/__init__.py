"""Hugging Face checkpoints, read into our models and written from them: GPT-2's.

`folders` knows where a checkpoint lies and its files, `translation` how one becomes a model of ours and back; what an
architecture calls its settings and tensors has a file of its own. Names and layout are those of `transformers`.
"""

from minitransformer.pretrained.folders import checkpoint_folder
from minitransformer.pretrained.gpt2 import GPT2HubConfig
from minitransformer.pretrained.translation import export_pretrained, load_pretrained

__all__ = ["GPT2HubConfig", "checkpoint_folder", "export_pretrained", "load_pretrained"]
