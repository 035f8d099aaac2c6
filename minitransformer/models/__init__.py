"""The models: each is built from a frozen configuration, saved to a folder and loaded from it."""

from pathlib import Path

import torch

from minitransformer.errors import InputError
from minitransformer.models.base import Config, Loss, Memory, Model, read_config
from minitransformer.models.bert import BERT
from minitransformer.models.bert_config import BERTConfig
from minitransformer.models.classifier import ClassifierConfig, SequenceClassifier
from minitransformer.models.gpt import GPT
from minitransformer.models.gpt_config import GPTConfig
from minitransformer.models.rnn import RNNConfig, RNNSeq2Seq
from minitransformer.models.transformer import Transformer, TransformerConfig
from minitransformer.pretrained import CAUSAL, MASKED, architecture_of, is_classifier
from minitransformer.untrusted import shown

__all__ = [
    "BERT",
    "GPT",
    "BERTConfig",
    "ClassifierConfig",
    "Config",
    "GPTConfig",
    "Loss",
    "Memory",
    "Model",
    "RNNConfig",
    "RNNSeq2Seq",
    "SequenceClassifier",
    "Transformer",
    "TransformerConfig",
    "load",
]


def load(folder: str | Path, dtype: torch.dtype = torch.float32) -> Model:
    """The model saved in `folder`: one of this library, or a Hugging Face checkpoint of a known architecture. A `dtype`
    of torch.bfloat16 takes half of the memory.

    Raises `InputError` for anything else, such as a run folder that holds several models.
    """
    kind = kind_of(folder)
    if "model" not in read_config(Path(folder)) and issubclass(kind, (BERT, GPT, SequenceClassifier)):
        return kind.from_pretrained(folder, dtype)
    return kind.load(folder).to(dtype)


def kind_of(folder: str | Path) -> type[Model]:
    """The class of the model that `load` gives. Raises `InputError` as it does."""
    kinds: tuple[type[Model], ...] = (BERT, GPT, Transformer, RNNSeq2Seq, SequenceClassifier)
    classes = {kind.__name__: kind for kind in kinds}
    config = read_config(Path(folder))
    name = config.get("model")
    models = sorted(path.parent.name for path in Path(folder).glob("*/model.safetensors"))
    if name is None and "model_type" not in config and models:
        raise InputError(f"{folder} is a run of several models: give one of them, such as {Path(folder) / models[0]}")
    if name is None:
        causal = architecture_of(Path(folder), config, (*CAUSAL, *MASKED), "minitransformer").generates
        return SequenceClassifier if is_classifier(Path(folder), config) else GPT if causal else BERT
    if not isinstance(name, str) or name not in classes:
        raise InputError(f'{folder}: config.json says "model": {shown(name)}, which is none of {", ".join(classes)}')
    return classes[name]
