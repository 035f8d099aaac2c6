"""The models: each is built from a frozen configuration, saved to a folder and loaded from it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from minitransformer.errors import InputError
from minitransformer.models.base import Config, Loss, Memory, Model, read_config
from minitransformer.models.bert import BERT
from minitransformer.models.bert_config import BERTConfig
from minitransformer.models.classifier import SequenceClassifier
from minitransformer.models.classifier_config import ClassifierConfig
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

KINDS: tuple[type[Model], ...] = (BERT, GPT, Transformer, RNNSeq2Seq, SequenceClassifier)


def load(folder: str | Path, dtype: torch.dtype = torch.float32) -> Model:
    """The model saved in `folder`: one of this library, one of your own whose class is imported, or a Hugging Face
    checkpoint of a known architecture. A `dtype` of torch.bfloat16 takes half of the memory.

    Raises `InputError` for anything else, such as a run folder that holds several models.
    """
    kind = kind_of(folder)
    if "model" not in read_config(Path(folder)) and issubclass(kind, (BERT, GPT, SequenceClassifier)):
        return kind.from_pretrained(folder, dtype)
    return kind.load(folder).to(dtype)


def kind_of(folder: str | Path) -> type[Model]:
    """The class of the model that `load` gives. Raises `InputError` as it does."""
    config = read_config(Path(folder))
    name = config.get("model")
    models = sorted(path.parent.name for path in Path(folder).glob("*/model.safetensors"))
    if name is None and "model_type" not in config and models:
        raise InputError(f"{folder} is a run of several models: give one of them, such as {Path(folder) / models[0]}")
    if name is None:
        causal = architecture_of(Path(folder), config, (*CAUSAL, *MASKED), "minitransformer").generates
        return SequenceClassifier if is_classifier(Path(folder), config) else GPT if causal else BERT
    found = models_called(name)
    if not found:
        known = ", ".join(kind.__name__ for kind in KINDS)
        raise InputError(
            f'{folder}: config.json says "model": {shown(name)}, which is none of {known}; import your own '
            "models before you load one"
        )
    if len(found) > 1:
        modules = ", ".join(kind.__module__ for kind in found)
        raise InputError(f"{folder} holds a {name}, and {modules} have one each: use load of the class itself")
    return found[0]


def models_called(name: Any) -> list[type[Model]]:
    """The imported classes of models with this name: that of this library, or one for each module that defines one. Of
    a class that a notebook defined several times, the latest."""
    if own := [kind for kind in KINDS if kind.__name__ == name]:
        return own
    return list({kind.__module__: kind for kind in subclasses(Model) if kind.__name__ == name}.values())


def subclasses(kind: type[Any]) -> Iterator[type[Model]]:
    """All classes below `kind`. Classes with the same parent are in the order of their definition."""
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)
