"""The masked model that a run starts from, with its tokenizer: both new, or both from `--init`."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from minitransformer.errors import InputError
from minitransformer.models import BERT, BERTConfig
from minitransformer.models.bert_config import SentenceTask
from minitransformer.tokenization import (
    masked_specials,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)
from train.pretrain.bert.corpora import Corpus, sentences_for_tokenizers
from train.pretrain.bert.settings import BERTSettings
from train.pretrain.settings import MODERN

DEFAULT_CONTEXT = 64


def train_tokenizer(settings: BERTSettings, corpora: Mapping[str, Corpus]) -> Tokenizer:
    """A tokenizer of the training text alone."""
    sentences = sentences_for_tokenizers(corpora)
    if settings.objective == "roberta":
        return train_roberta_tokenizer(sentences, settings.vocab_size)
    options = {"lowercase": not settings.cased, "strip_accents": settings.strip_accents}
    return train_wordpiece_tokenizer(sentences, settings.vocab_size, **options)


def new_model(settings: BERTSettings, tokenizer: Tokenizer, context: int, sentence_head: SentenceTask | None) -> BERT:
    """`sentence_head` is None if the data has no pairs to train it with."""
    specials = masked_specials(tokenizer)
    albert, roberta = settings.objective == "albert", settings.objective == "roberta"
    if settings.architecture == "modern":
        style: dict[str, Any] = {**MODERN, "pre_norm": True}
    else:
        style = {
            "activation": "gelu_tanh" if albert else "gelu",
            "norm_eps": 1e-5 if roberta else 1e-12,
            "position_offset": specials.pad_id + 1 if roberta else 0,
        }
    config = BERTConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_length=context,
        d_model=settings.d_model,
        num_heads=settings.num_heads,
        num_layers=settings.num_layers,
        d_ff=settings.d_ff,
        d_embedding=settings.d_embedding or (128 if albert else None),
        num_hidden_groups=settings.num_hidden_groups or (1 if albert else None),
        num_segments=1 if roberta else 2,
        dropout=settings.dropout,
        pooler=sentence_head is not None,
        sentence_head=sentence_head,
        pad_id=specials.pad_id,
        cls_id=specials.cls_id,
        sep_id=specials.sep_id,
        mask_id=specials.mask_id,
        **style,
    )
    model = BERT(config)
    if settings.architecture == "modern":
        model.init_weights(zero_residual=True)
    return model


def with_heads(model: BERT, sentence_head: SentenceTask | None) -> BERT:
    """The model with the heads that the objective needs. Heads that it lacks are new, which a warning says."""
    config = model.config
    sentence_head = sentence_head or config.sentence_head
    if sentence_head is not None and config.num_segments < 2:
        raise InputError(
            "the model of --init has one segment and cannot read pairs of sentences: add --objective roberta"
        )
    if config.masked_head and config.sentence_head == sentence_head:
        return model
    pooler = config.pooler or sentence_head is not None
    new = BERT(dataclasses.replace(config, masked_head=True, sentence_head=sentence_head, pooler=pooler))
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("sentence_head")}
    missing = new.load_state_dict(kept, strict=False).missing_keys
    heads = sorted({name.split(".")[0].replace("_", " ") for name in missing})
    warnings.warn(f"--init has no {', '.join(heads)} for this objective: new ones start untrained", stacklevel=2)
    return new
