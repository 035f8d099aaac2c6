"""What each job does with its data before and while it trains, on a tiny model, with the memory and time it takes."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from minitransformer.data import load
from minitransformer.data.labelled_batches import LabelledData
from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import MaskVocabulary
from minitransformer.data.streams import StreamWindows, stream_rows
from minitransformer.models import GPT, GPTConfig, Model, SequenceClassifier, Transformer, TransformerConfig
from minitransformer.tokenization import masked_specials
from train.engine.feed import Feed
from train.engine.loop import TrainingData
from train.finetune import __main__ as finetune
from train.finetune import starting_model as classifier
from train.finetune.settings import FinetuneSettings
from train.pretrain.bert import __main__ as bert
from train.pretrain.bert import starting_model as masked_model
from train.pretrain.bert.corpora import read_corpora
from train.pretrain.bert.counting_baselines import CountingBaselines
from train.pretrain.bert.rows import corpora_rows
from train.pretrain.bert.scores import masked_score
from train.pretrain.bert.settings import SENTENCE_TASKS, BERTSettings
from train.pretrain.gpt import __main__ as gpt
from train.pretrain.gpt import starting_model as causal_model
from train.pretrain.gpt.settings import GPTSettings
from train.pretrain.gpt.stream_loss import stream_loss
from train.translate.data import TranslationData, tokenizers_for
from train.translate.texts import are_sentences, sample

CONTEXT, MASKED_CONTEXT = 128, 64
Prepared = tuple[Model, TrainingData, Callable[[], Any]]
"""A tiny model, its training batches, and what the job does after some steps."""


def measured(settings: Any, path: Path) -> dict[str, Any]:
    """Peaks are in megabytes of resident memory, which includes the pages of mapped files that are in use."""
    figures: dict[str, Any] = {"start_megabytes": peak_megabytes()}
    model, feed, evaluate = JOBS[settings.job](settings, path, figures)
    figures["prepared_megabytes"] = peak_megabytes()
    with timed_as("steps_seconds", figures):
        train_some(model, feed, settings.steps)
        evaluate()
    figures["peak_megabytes"] = peak_megabytes()
    return figures


def prepare_gpt(settings: Any, path: Path, figures: dict[str, Any]) -> Prepared:
    flags = GPTSettings(tokenizer=settings.tokenizer or "character")
    with timed_as("tokenizer_seconds", figures):
        corpus = load(path, kind="text")
        tokenizer = causal_model.train_tokenizer(flags, corpus["train"])
    with timed_as("tokens_seconds", figures):
        splits = {name: stream_rows(text, tokenizer) for name, text in corpus.items()}
        gpt.check_unknown(splits, tokenizer, str(path))
    streams = {name: rows.ids for name, rows in splits.items()}
    figures["tokens"] = sum(len(ids) for ids in streams.values())
    model = GPT(GPTConfig(tokenizer.get_vocab_size(), CONTEXT, d_model=32, num_heads=2, num_layers=2, eos_id=3))
    feed = StreamWindows(streams["train"], CONTEXT, batch_size=16, seed=0)
    every = 1 + len(streams["validation"]) // gpt.TOKENS_TO_WATCH
    return model, feed, partial(stream_loss, model, streams["validation"], CONTEXT, every=every)


def prepare_bert(settings: Any, path: Path, figures: dict[str, Any]) -> Prepared:
    flags = BERTSettings(data=str(path), num_layers=2, d_model=32, num_heads=2)
    task = SENTENCE_TASKS[flags.objective]
    with timed_as("tokenizer_seconds", figures):
        corpora = read_corpora(flags.data)
        tokenizer = masked_model.train_tokenizer(flags, corpora)
    with timed_as("tokens_seconds", figures):
        rows, held_out = corpora_rows(corpora, tokenizer, MASKED_CONTEXT, task, seed=0)
    of_validation = held_out["validation"][flags.data]
    figures["tokens"] = len(rows.ids) + len(of_validation.ids)
    vocabulary, pad_id = MaskVocabulary.of(tokenizer), masked_specials(tokenizer).pad_id
    model = masked_model.new_model(flags, tokenizer, MASKED_CONTEXT, task)
    feed = MaskedBatches(rows, vocabulary, pad_id=pad_id, max_tokens=1024, seed=0)
    validation = MaskedBatches(of_validation, vocabulary, pad_id=pad_id, max_tokens=8192, seed=0)

    def evaluate() -> None:
        masked_score(model, validation, every=1 + len(of_validation.ids) // bert.TOKENS_TO_WATCH)
        CountingBaselines(rows, vocabulary)

    return model, feed, evaluate


def prepare_translate(settings: Any, folder: Path, figures: dict[str, Any]) -> Prepared:
    with timed_as("read_seconds", figures):
        corpus = load(folder, source="from", target="to")
        are_sentences(sample(corpus["train"]))
    figures["pairs"] = len(corpus["train"])
    with timed_as("tokenizer_seconds", figures):
        tokenizers = tokenizers_for(corpus["train"], "bpe", vocab_size=1000, joint=True)
    with timed_as("tokens_seconds", figures):
        data = TranslationData.of(corpus, *tokenizers, limit=CONTEXT)
    figures["tokens"] = int(data.pairs["train"].lengths.sum())
    sizes: dict[str, Any] = dict(d_model=32, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1)
    size = tokenizers[0].get_vocab_size()
    model = Transformer(TransformerConfig(size, size, **sizes))
    feed = Feed(data.pairs["train"], max_tokens=4096, pool=200, seed=0)
    return model, feed, partial(data.loss, model, "validation")


def prepare_finetune(settings: Any, folder: Path, figures: dict[str, Any]) -> Prepared:
    """Without the baselines, which come last and limit their own memory."""
    flags = FinetuneSettings(init=Path("scratch"), d_model=32, num_layers=2, num_heads=2)
    with timed_as("read_seconds", figures):
        corpus = load(folder, kind="labelled")
    figures["texts"] = len(corpus["train"])
    with timed_as("tokenizer_seconds", figures):
        tokenizer = classifier.new_tokenizer(flags, corpus["train"])
    with timed_as("tokens_seconds", figures):
        data = {name: LabelledData(split, tokenizer, classifier.LONGEST) for name, split in corpus.items()}
    figures["tokens"] = sum(int(part.lengths.sum()) for part in data.values())
    sizes: dict[str, Any] = {"max_length": classifier.LONGEST, "dropout": 0.3}
    encoder = classifier.new_encoder("transformer", flags, tokenizer, **sizes)
    model = SequenceClassifier(encoder, corpus["train"].features["label"].num_classes)
    feed = Feed(data["train"], flags.max_tokens, flags.pool, seed=0)
    return model, feed, partial(finetune.evaluate, model, data["validation"])


JOBS: dict[str, Callable[[Any, Path, dict[str, Any]], Prepared]] = {
    "gpt": prepare_gpt,
    "bert": prepare_bert,
    "translate": prepare_translate,
    "finetune": prepare_finetune,
}


def train_some(model: Model, feed: TrainingData, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters())
    batches = feed.epoch(0)
    for place in range(min(steps, len(batches))):
        parts = model.loss(feed.batch(batches[place])).values()
        torch.stack([part.total / part.count for part in parts]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def peak_megabytes() -> float:
    """The most memory that this process has had at once."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def timed_as(name: str, figures: dict[str, Any]) -> Iterator[None]:
    """Processor seconds, which other programs on the machine hardly change."""
    began = time.process_time()
    yield
    figures[name] = time.process_time() - began
