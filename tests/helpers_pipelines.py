"""A tiny pipeline of each kind, whose model has a vocabulary padded beyond its tokenizer's."""

import torch
from helpers_models import nudged

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    Classifier,
    Completer,
    GPTConfig,
    MaskFiller,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Translator,
)
from minitransformer.tokenization import train_character_tokenizer, train_wordpiece_tokenizer

CHARACTERS = train_character_tokenizer(["the lazy dog"])
WORDS = train_wordpiece_tokenizer(["the lazy dog"], 60)
SIZE = 20 + max(tokenizer.get_vocab_size() for tokenizer in (CHARACTERS, WORDS))
SIZES = dict(vocab_size=SIZE, d_model=8, num_heads=2, num_layers=1, max_length=16, dropout=0.5)


def pipeline(kind):
    """A `Completer`, `Translator`, `Classifier` or `MaskFiller`; each call gives a new model with the same weights."""
    torch.manual_seed(0)
    if kind is Completer:
        return Completer(nudged(GPT(GPTConfig(**SIZES, eos_id=3))).eval(), CHARACTERS)
    if kind is Translator:
        model = RNNSeq2Seq(RNNConfig(SIZE, SIZE, d_model=8, hidden_size=8))
        return Translator(nudged(model).eval(), CHARACTERS, CHARACTERS)
    bert = BERT(BERTConfig(**SIZES, cls_id=2, sep_id=3, mask_id=4))
    if kind is MaskFiller:
        return MaskFiller(nudged(bert).eval(), WORDS)
    model = SequenceClassifier(bert, 2, pooling="attention", labels=["no", "yes"])
    return Classifier(nudged(model).eval(), WORDS)
