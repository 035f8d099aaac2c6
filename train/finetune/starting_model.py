"""The classifier that a run starts from, with its tokenizer and recipe: a pretrained encoder, or a new one."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from tokenizers import Tokenizer

from minitransformer.data.columns import texts
from minitransformer.data.labelled_batches import LabelledData
from minitransformer.models import (
    BERT,
    GPT,
    BERTConfig,
    GPTConfig,
    Model,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
)
from minitransformer.models.pooling import PoolingName
from minitransformer.pipelines.base import load_with_tokenizer
from minitransformer.pipelines.classifier import Classifier
from minitransformer.pretrained.folders import checkpoint_folder
from minitransformer.text_encoding import text_frame
from minitransformer.tokenization import masked_specials, train_wordpiece_tokenizer
from train.engine.tokenizer_text import first
from train.finetune.metrics import shown_labels
from train.finetune.settings import FinetuneSettings

LONGEST = 512
"""The most tokens of a text that a new encoder reads."""


@dataclass(frozen=True)
class Recipe:
    """How an encoder is fine-tuned best: the defaults of flags that are left out, found on film reviews."""

    lr: float
    epochs: int
    pooling: PoolingName
    dropout: float | None = None
    """None keeps the dropout of the pretrained encoder."""
    layer_decay: float = 1.0
    has_head: bool = False
    """The model that `--init` names is a classifier with these labels."""


PRETRAINED = Recipe(lr=1.5e-4, epochs=2, pooling="mean", layer_decay=0.85)
SMALL_PRETRAINED = Recipe(lr=5e-4, epochs=5, pooling="mean", dropout=0.1)
SMALL_WIDTH = 384
"""Narrower pretrained encoders, as `train.pretrain` makes them, take the small recipe."""
NEW = Recipe(lr=5e-4, epochs=4, pooling="mean", dropout=0.3)
NEW_RNN = Recipe(lr=2e-3, epochs=4, pooling="attention", dropout=0.3)


def starting_model(settings: FinetuneSettings, train_split: datasets.Dataset) -> tuple[Classifier, Recipe, str]:
    """The classifier to train, the defaults for training it, and a line that says where it comes from. `InputError` if
    `settings.init` names no model."""
    labels = tuple(train_split.features["label"].names)
    torch.manual_seed(settings.seed)
    if settings.from_scratch:
        name = settings.encoder or "transformer"
        recipe = NEW_RNN if name == "rnn" else NEW
        dropout = recipe.dropout if settings.dropout is None else settings.dropout
        tokenizer = new_tokenizer(settings, train_split)
        longest = int(LabelledData(train_split, tokenizer, LONGEST).lengths.max())
        encoder = new_encoder(name, settings, tokenizer, max_length=max(128, longest), dropout=dropout)
        origin = f"a new {name} encoder with {tokenizer.get_vocab_size():,} pieces of words"
    else:
        model, tokenizer = read_pretrained(settings.init)
        encoder = model.encoder if isinstance(model, SequenceClassifier) else model
        recipe = SMALL_PRETRAINED if encoder.config.d_model < SMALL_WIDTH else PRETRAINED
        if isinstance(model, SequenceClassifier):
            c = model.config
            if c.labels == labels and settings.pooling in (None, c.pooling) and settings.dropout is None:
                model.config = replace(c, label_smoothing=settings.label_smoothing)
                return Classifier(model, tokenizer), replace(recipe, has_head=True), f"{settings.init} with its head"
            origin = f"the head of {settings.init} is dropped (its labels are {shown_labels(c.labels or '?')}): a new"
        else:
            origin = f"{settings.init} has no classification head: a new"
        origin += f" one for {len(labels)} labels"
        dropout = recipe.dropout if settings.dropout is None else settings.dropout
        if dropout is not None:
            encoder = with_dropout(encoder, dropout)
    model = SequenceClassifier(
        encoder,
        len(labels),
        pooling=settings.pooling or recipe.pooling,
        labels=labels,
        dropout=0.1 if dropout is None else dropout,
        label_smoothing=settings.label_smoothing,
    )
    return Classifier(model, tokenizer), recipe, origin


def read_pretrained(init: Path) -> tuple[Model, Tokenizer]:
    """The model and tokenizer of `minilm`, of a run, or of a Hugging Face folder."""
    folder = checkpoint_folder(init)
    with warnings.catch_warnings():
        # A classifier does not need the checkpoint's heads for pretraining.
        warnings.filterwarnings("ignore", message=r".*(masked-token|sentence) head")
        kinds = (BERT, GPT, SequenceClassifier)
        return load_with_tokenizer(folder, kinds, "not a BERT, a GPT or a classifier")


def with_dropout(encoder: Model, rate: float) -> Model:
    """The same weights under another dropout. Heads that the encoder of a classifier lacks are new: the next classifier
    drops them again."""
    fields = {name: rate for name in ("dropout", "attention_dropout") if hasattr(encoder.config, name)}
    changed = type(encoder)(replace(encoder.config, **fields))
    changed.load_state_dict(encoder.state_dict(), strict=False)
    return changed


def new_tokenizer(settings: FinetuneSettings, train_split: datasets.Dataset) -> Tokenizer:
    """A WordPiece tokenizer, trained on the training texts."""
    learned_from = first(texts(train_split, "text"), of="the texts")
    options = {"lowercase": not settings.cased, "strip_accents": settings.strip_accents}
    return train_wordpiece_tokenizer(learned_from, settings.vocab_size, **options)


def new_encoder(
    name: str, settings: FinetuneSettings, tokenizer: Tokenizer, *, max_length: int, dropout: float | None
) -> Model:
    """An untrained encoder."""
    width, heads = settings.d_model, settings.num_heads
    layers = settings.num_layers or (1 if name == "rnn" else 2)
    size = tokenizer.get_vocab_size()
    shared: dict[str, Any] = {"d_model": width, "max_length": max_length, "dropout": dropout}
    blocks: dict[str, Any] = {"num_layers": layers, "num_heads": heads}
    if name == "bert":
        specials = masked_specials(tokenizer)
        ids: dict[str, Any] = {key: getattr(specials, key) for key in ("pad_id", "cls_id", "sep_id", "mask_id")}
        without_heads: dict[str, Any] = {"masked_head": False, "sentence_head": None, "pooler": False}
        return BERT(BERTConfig(vocab_size=size, **shared, **blocks, **ids, **without_heads))
    if name == "gpt":
        return GPT(GPTConfig(vocab_size=size, eos_id=text_frame(tokenizer)[1], **shared, **blocks))
    # The classifier drops the decoder of an encoder-decoder: the smallest one will do.
    if name == "transformer":
        stacks: dict[str, Any] = {"num_encoder_layers": layers, "num_decoder_layers": 1, "num_heads": heads}
        return Transformer(TransformerConfig(size, 4, d_ff=4 * width, pre_norm=True, **shared, **stacks))
    rnn: dict[str, Any] = {"num_layers": layers, "hidden_size": width, "bidirectional": True, "attention": "none"}
    return RNNSeq2Seq(RNNConfig(size, 4, **shared, **rnn))
