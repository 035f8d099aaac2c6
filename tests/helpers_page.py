"""Tiny models of every kind with attention, and what their views must show."""

import json
import re
import threading
from contextlib import contextmanager

import numpy as np
import torch
from helpers_models import nudged
from helpers_pipelines import CHARACTERS, SIZE, pipeline

from minitransformer import (
    GPT,
    Classifier,
    Completer,
    GPTConfig,
    MaskFiller,
    RNNConfig,
    RNNSeq2Seq,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
    Translator,
)
from minitransformer.page import Grid, View
from minitransformer.page.server import address_of, listening, server_for
from minitransformer.tokenization import train_byte_bpe_tokenizer

TEXT = "the lazy dog"
BYTES = train_byte_bpe_tokenizer(["a"], 260)


def transformer(text_tokenizer=CHARACTERS, **options):
    """A translator of 2 + 2 layers of 2 heads, which writes at most 6 tokens more than it reads."""
    torch.manual_seed(1)
    sizes = dict(d_model=16, num_heads=2, d_ff=16, num_encoder_layers=2, num_decoder_layers=2, max_length=20)
    config = TransformerConfig(SIZE, SIZE, **(sizes | dict(max_extra_tokens=6) | options))
    model = nudged(Transformer(config)).eval()
    with torch.no_grad():
        model.output.weight[0] = 0  # a model that writes padding would show nothing
    return Translator(model, text_tokenizer, text_tokenizer)


def rnn():
    torch.manual_seed(0)
    model = RNNSeq2Seq(RNNConfig(SIZE, SIZE, d_model=8, hidden_size=8, max_extra_tokens=2))
    return Translator(nudged(model).eval(), CHARACTERS, CHARACTERS)


def gpt():
    torch.manual_seed(0)
    config = GPTConfig(BYTES.get_vocab_size(), d_model=8, num_heads=2, num_layers=1, max_length=16, eos_id=3)
    return Completer(nudged(GPT(config)).eval(), BYTES)


def gpt_classifier():
    torch.manual_seed(0)
    encoder = GPT(GPTConfig(SIZE, d_model=8, num_heads=2, num_layers=2, max_length=16, eos_id=3))
    return Classifier(nudged(SequenceClassifier(encoder, 3, pooling="attention")).eval(), CHARACTERS)


PIPELINES = {
    "transformer": transformer,
    "rnn": rnn,
    "gpt": gpt,
    "bert": lambda: pipeline(MaskFiller),
    "bert classifier": lambda: pipeline(Classifier),
    "gpt classifier": gpt_classifier,
}


def data_of(html):
    """What the script of a page reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


@contextmanager
def exploring(views):
    """A server of `explore` in this process; gives its address."""
    with listening(0) as listener:
        server = server_for(views, listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def weights_of(data):
    """The weights that bytes stand for."""
    return (np.asarray(data, dtype=np.float64) / 255) ** 2


def made_view(*, layers=1, heads=1, queries="abc", keys="xy", kind="cross", title="made", seed=0, **options):
    """A view of random weights, whose rows add up to 1. Strings are lists of one-letter tokens."""
    random = np.random.default_rng(seed)
    weights = random.dirichlet([0.3] * len(keys), (layers, heads, len(queries)))
    grid = Grid(kind, tuple(queries), tuple(keys), np.rint(255 * np.sqrt(weights)).astype(np.uint8))
    return View(title, options.pop("text", "".join(keys)), (grid,), **options)
