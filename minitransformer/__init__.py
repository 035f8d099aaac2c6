"""minitransformer: a minimal Transformer library to read, import and train with."""

# First, since it shields the imports of the rest, which take seconds, from Ctrl-C.
import minitransformer.reporting

# isort: split
import minitransformer.deprecated  # noqa: F401 - old import paths
from minitransformer.attention import KVCache, MultiHeadAttention, attention, attention_weights, record_attention
from minitransformer.blocks import DecoderBlock, EncoderBlock, FeedForward, Stack
from minitransformer.decodable import Decodable
from minitransformer.errors import InputError
from minitransformer.generation import Hypothesis, Sampler, beam_search, greedy, sample, stream
from minitransformer.masks import causal_mask, document_mask, padding_mask, sliding_window_mask
from minitransformer.models import (
    BERT,
    GPT,
    BERTConfig,
    ClassifierConfig,
    Config,
    GPTConfig,
    Loss,
    Memory,
    Model,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
    load,
)
from minitransformer.norms import RMSNorm
from minitransformer.page import attention_page
from minitransformer.pipelines import Classifier, Completer, MaskFiller, Translator
from minitransformer.positions import ALiBi, LearnedPositions, RelativeBias, Rotary, SinusoidalPositions
from minitransformer.recurrent import Additive, Local, Location, Multiplicative

__all__ = [
    "BERT",
    "GPT",
    "ALiBi",
    "Additive",
    "BERTConfig",
    "Classifier",
    "ClassifierConfig",
    "Completer",
    "Config",
    "Decodable",
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
    "MaskFiller",
    "Memory",
    "Model",
    "MultiHeadAttention",
    "Multiplicative",
    "RMSNorm",
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
    "Translator",
    "attention",
    "attention_page",
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
