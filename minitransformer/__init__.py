"""minitransformer: a minimal Transformer library to read, import and train with."""

from pathlib import Path

from minitransformer.attention import KVCache, MultiHeadAttention, attention, attention_weights, record_attention
from minitransformer.blocks import DecoderBlock, EncoderBlock, FeedForward, Stack
from minitransformer.errors import InputError
from minitransformer.generation import Hypothesis, Sampler, beam_search, greedy, sample, stream
from minitransformer.masks import causal_mask, document_mask, padding_mask, sliding_window_mask
from minitransformer.models import (
    BERT,
    GPT,
    BERTConfig,
    ClassifierConfig,
    GPTConfig,
    Loss,
    Memory,
    Model,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
)
from minitransformer.models.base import read_config
from minitransformer.positions import ALiBi, LearnedPositions, RelativeBias, Rotary, SinusoidalPositions
from minitransformer.recurrent import Additive, Local, Location, Multiplicative
from minitransformer.untrusted import shown

__all__ = [
    "BERT",
    "GPT",
    "ALiBi",
    "Additive",
    "BERTConfig",
    "ClassifierConfig",
    "DecoderBlock",
    "EncoderBlock",
    "FeedForward",
    "GPTConfig",
    "Hypothesis",
    "InputError",
    "KVCache",
    "LearnedPositions",
    "Local",
    "Location",
    "Loss",
    "Memory",
    "Model",
    "MultiHeadAttention",
    "Multiplicative",
    "RNNConfig",
    "RNNSeq2Seq",
    "RelativeBias",
    "Rotary",
    "Sampler",
    "SequenceClassifier",
    "SinusoidalPositions",
    "Stack",
    "Transformer",
    "TransformerConfig",
    "attention",
    "attention_weights",
    "beam_search",
    "causal_mask",
    "document_mask",
    "greedy",
    "load",
    "padding_mask",
    "record_attention",
    "sample",
    "sliding_window_mask",
    "stream",
]


def load(folder: str | Path) -> Model:
    """The model saved in `folder`, whichever it is, ours or a checkpoint of Hugging Face: its `config.json` says.
    `InputError` if it is none that we know."""
    kinds: tuple[type[Model], ...] = (BERT, GPT, Transformer, RNNSeq2Seq, SequenceClassifier)
    classes = {kind.__name__: kind for kind in kinds}
    config = read_config(Path(folder))
    pretrained: dict[str, type[BERT] | type[GPT]] = {"gpt2": GPT, "bert": BERT, "roberta": BERT, "albert": BERT}
    if "model" not in config and (kind := pretrained.get(str(config.get("model_type")))):
        return kind.from_pretrained(folder)
    name = config.get("model")
    if name is None and (models := sorted(path.parent.name for path in Path(folder).glob("*/model.safetensors"))):
        raise InputError(f"{folder} is a run of several models: give one of them, such as {Path(folder) / models[0]}")
    if not isinstance(name, str) or name not in classes:
        raise InputError(f'{folder}: config.json says "model": {shown(name)}, which is none of {", ".join(classes)}')
    return classes[name].load(folder)
