"""The causal model that a run starts from, with its tokenizer: both new, or both from `--init`."""

from typing import Any

import datasets
import torch
from tokenizers import Tokenizer

from minitransformer.data.columns import texts
from minitransformer.data.running_text import documents, pieces
from minitransformer.models import GPT, GPTConfig
from minitransformer.pipelines.completer import Completer
from minitransformer.tokenization import (
    end_of_text_id,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
)
from train.engine.processes import Processes
from train.engine.tokenizer_text import first, warn_of_small_vocabulary
from train.pretrain.gpt.settings import GPTSettings
from train.pretrain.settings import MODERN

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "modern": MODERN,
    "llama": MODERN | {"activation": "swiglu", "qk_norm": False},
    "qwen3": MODERN | {"activation": "swiglu"},
    "gpt2": {},
}


def starting_model(settings: GPTSettings, text: datasets.Dataset) -> Completer:
    """A new tokenizer is trained on `text`, the training split."""
    torch.manual_seed(settings.seed)
    if settings.init is not None:
        completer = Completer.load(settings.init)
        settings.require_context_within(completer.model)
        return completer
    tokenizer = Processes.current().on_rank_0(lambda: train_tokenizer(settings, text))
    fields = ARCHITECTURES[settings.architecture]
    # SwiGLU's third matrix is paid for by narrower ones; a multiple of 8 is what processors multiply fast.
    d_ff = 8 * round(settings.d_model / 3) if fields.get("activation") == "swiglu" else None
    config = GPTConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_length=settings.context or 128,
        d_model=settings.d_model,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_kv_heads,
        d_ff=settings.d_ff or d_ff,
        num_layers=settings.num_layers,
        eos_id=end_of_text_id(tokenizer),
        dropout=settings.dropout,
        **fields,
    )
    model = GPT(config)
    if settings.architecture != "gpt2":
        model.init_weights(zero_residual=True)
    return Completer(model, tokenizer)


def train_tokenizer(settings: GPTSettings, text: datasets.Dataset) -> Tokenizer:
    if settings.tokenizer == "character":
        return train_character_tokenizer(texts(text, "text"))
    train_bpe = train_bpe_tokenizer if settings.tokenizer == "bpe" else train_byte_bpe_tokenizer
    learned_from = first(piece for document in documents(text) for piece in pieces(document, 1 << 16))
    tokenizer = train_bpe(learned_from, settings.vocab_size)
    warn_of_small_vocabulary(tokenizer, settings.vocab_size)
    return tokenizer
