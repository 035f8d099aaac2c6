"""Where fine-tuning begins: a pretrained encoder with its tokenizer, or new ones; and how each is trained best."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
from tokenizers import Tokenizer

import minitransformer
from minitransformer.data.labels import LabelledData
from minitransformer.data.packaged import minilm
from minitransformer.errors import InputError
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
from minitransformer.pipelines.classifier import Classifier, vocab_size
from minitransformer.text_encoding import text_frame
from minitransformer.tokenization import load_tokenizer, masked_specials, train_wordpiece_tokenizer
from train.engine.tokenizer_text import first_texts

VOCAB_SIZE = 8000  # that a new tokenizer learns unless told
LONGEST = 512  # tokens of a text that a new encoder reads


@dataclass(frozen=True)
class Recipe:
    """How to train; every flag left out is from here."""

    lr: float
    epochs: int
    pooling: str
    dropout: float | None = None
    """None: what the pretrained encoder has."""
    layer_decay: float = 1.0


PRETRAINED = Recipe(lr=1.5e-4, epochs=2, pooling="mean", layer_decay=0.85)
# For what is pretrained here, narrower than `SMALL`.
SMALL_PRETRAINED = Recipe(lr=5e-4, epochs=5, pooling="mean", dropout=0.1)
SMALL = 384
SCRATCH = {
    "bert": Recipe(lr=5e-4, epochs=4, pooling="mean", dropout=0.3),
    "gpt": Recipe(lr=5e-4, epochs=4, pooling="mean", dropout=0.3),
    "transformer": Recipe(lr=5e-4, epochs=4, pooling="mean", dropout=0.3),
    "rnn": Recipe(lr=2e-3, epochs=4, pooling="attention", dropout=0.3),
}


class Start(NamedTuple):
    """The classifier to train, how, and a line on where it comes from."""

    classifier: Classifier
    recipe: Recipe
    origin: str


def starting_point(settings: Any, corpus: Mapping[str, datasets.Dataset]) -> Start:
    """What `settings.init` says; `InputError` where there is nothing to begin with."""
    torch.manual_seed(settings.seed)
    names = tuple(corpus["train"].features["label"].names)
    if str(settings.init) == "scratch":
        recipe = SCRATCH[settings.encoder_name()]
        tokenizer = new_tokenizer(settings, corpus["train"])
        encoder = new_encoder(settings, tokenizer, corpus["train"])
        origin = f"a new {settings.encoder_name()} encoder with {tokenizer.get_vocab_size():,} pieces of words"
        dropout = encoder.config.dropout
    else:
        model, tokenizer = read_pretrained(settings.init)
        encoder = model.encoder if isinstance(model, SequenceClassifier) else model
        recipe = SMALL_PRETRAINED if encoder.config.d_model < SMALL else PRETRAINED
        if isinstance(model, SequenceClassifier):
            c = model.config
            if c.labels == names and settings.pooling in (None, c.pooling) and settings.dropout is None:
                model.config = replace(c, label_smoothing=settings.label_smoothing)
                return Start(Classifier(model, tokenizer), recipe, f"{settings.init} and its head go on")
            origin = f"the head of {settings.init} is left behind (its labels are {', '.join(c.labels or '?')}): a new"
        else:
            origin = f"{settings.init} has no classification head: a new"
        origin += f" one for {len(names)} labels"
        dropout = 0.1
        if (rate := recipe.dropout if settings.dropout is None else settings.dropout) is not None:
            encoder, dropout = with_dropout(encoder, rate), rate
    model = SequenceClassifier(
        encoder,
        len(names),
        pooling=settings.pooling or recipe.pooling,
        labels=names,
        dropout=dropout,
        label_smoothing=settings.label_smoothing,
    )
    return Start(Classifier(model, tokenizer), recipe, origin)


def read_pretrained(init: Path) -> tuple[Model, Tokenizer]:
    """The model and tokenizer of `minilm`, of a run, or of a folder of Hugging Face's."""
    folder = minilm() if str(init) == "minilm" and not init.exists() else init
    with warnings.catch_warnings():
        # That a checkpoint has no heads for pretraining does not matter here.
        warnings.filterwarnings("ignore", message=r".*(masked-token|sentence) head")
        model = minitransformer.load(folder)
    if not isinstance(model, BERT | GPT | SequenceClassifier):
        raise InputError(f"--init {init} holds a {type(model).__name__}: take a BERT, a GPT or a classifier")
    encoder = model.encoder if isinstance(model, SequenceClassifier) else model
    return model, load_tokenizer(folder / "tokenizer.json", vocab_size=vocab_size(encoder.config))


def with_dropout(encoder: Model, rate: float) -> Model:
    """The same weights under another dropout."""
    fields = {"dropout": rate} | ({"attention_dropout": rate} if hasattr(encoder.config, "attention_dropout") else {})
    changed = type(encoder)(replace(encoder.config, **fields))
    # A classifier's encoder has lost the parts that predict tokens: nothing new stands in their place.
    for name, part in encoder._modules.items():
        if part is None:
            setattr(changed, name, None)
    changed.load_state_dict(encoder.state_dict())
    return changed


def new_tokenizer(settings: Any, split: datasets.Dataset) -> Tokenizer:
    """Pieces of words, found in the first `TOKENIZER_BYTES` of the training texts."""
    return train_wordpiece_tokenizer(first_texts(split, "text"), settings.vocab_size or VOCAB_SIZE)


def new_encoder(settings: Any, tokenizer: Tokenizer, split: datasets.Dataset) -> Model:
    """An untrained encoder of `settings.encoder_name()`; sizes left out are what `SIZES` says."""
    name = settings.encoder_name()
    sizes = SIZES[name] | {
        key: value
        for key in ("d_model", "num_layers", "num_heads")
        if (value := getattr(settings, key)) is not None and key in SIZES[name]
    }
    specials = masked_specials(tokenizer)
    longest = int(LabelledData(split, tokenizer, LONGEST).lengths.max())
    dropout = settings.dropout if settings.dropout is not None else SCRATCH[name].dropout
    shared: dict[str, Any] = {"max_length": max(128, longest), "dropout": dropout}
    size = tokenizer.get_vocab_size()
    if name == "bert":
        ids: dict[str, Any] = {key: getattr(specials, key) for key in ("pad_id", "cls_id", "sep_id", "mask_id")}
        heads: dict[str, Any] = {"masked_head": False, "sentence_head": None, "pooler": False}
        return BERT(BERTConfig(vocab_size=size, **sizes, **shared, **ids, **heads))
    if name == "gpt":
        return GPT(GPTConfig(vocab_size=size, eos_id=text_frame(tokenizer)[1], **sizes, **shared))
    # Of the encoder-decoders the decoder is left out: the smallest will do.
    if name == "transformer":
        layers = {"num_encoder_layers": sizes.pop("num_layers"), "num_decoder_layers": 1}
        width: dict[str, Any] = {"d_ff": 4 * sizes["d_model"], "pre_norm": True}
        return Transformer(TransformerConfig(size, 4, **sizes, **shared, **layers, **width))
    hidden: dict[str, Any] = {"hidden_size": sizes["d_model"], "bidirectional": True, "attention": "none"}
    return RNNSeq2Seq(RNNConfig(size, 4, **sizes, **shared, **hidden))


SIZES: dict[str, dict[str, Any]] = {
    "bert": {"d_model": 128, "num_layers": 2, "num_heads": 4},
    "gpt": {"d_model": 128, "num_layers": 2, "num_heads": 4},
    "transformer": {"d_model": 128, "num_layers": 2, "num_heads": 4},
    "rnn": {"d_model": 128, "num_layers": 1},
}
