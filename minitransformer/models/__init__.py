"""The models: each is built from a frozen configuration, saved to a folder and loaded from it."""

from minitransformer.models.base import Loss, Memory, Model
from minitransformer.models.bert import BERT
from minitransformer.models.bert_config import BERTConfig
from minitransformer.models.classifier import ClassifierConfig, SequenceClassifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.rnn import RNNConfig, RNNSeq2Seq
from minitransformer.models.transformer import Transformer, TransformerConfig

__all__ = [
    "BERT",
    "GPT",
    "BERTConfig",
    "ClassifierConfig",
    "GPTConfig",
    "Loss",
    "Memory",
    "Model",
    "RNNConfig",
    "RNNSeq2Seq",
    "SequenceClassifier",
    "Transformer",
    "TransformerConfig",
]
