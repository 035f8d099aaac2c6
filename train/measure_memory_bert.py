"""What a text takes of memory and time before and while `train.pretrain bert` trains on it."""

from pathlib import Path
from typing import Any

import torch

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import MaskVocabulary
from minitransformer.tokenization import masked_specials
from train.masked_corpora import read_corpora
from train.masked_models import new_model
from train.masked_rows import corpora_rows
from train.masked_scoring import CountingBaselines, masked_score
from train.measure_memory import peak_megabytes, timed_as
from train.pretrain_bert import HELD_OUT_SEED, SENTENCE_TASKS, TOKENS_TO_WATCH, PretrainSettings, train_tokenizer

CONTEXT = 64


def measured_bert(path: Path, *, steps: int) -> dict[str, Any]:
    """Peaks are in megabytes, of all memory: pages of mapped files that are in use count too."""
    figures: dict[str, Any] = {"start_megabytes": peak_megabytes()}
    settings = PretrainSettings(data=str(path), num_layers=2, d_model=32, num_heads=2)
    task = SENTENCE_TASKS[settings.objective]
    with timed_as("tokenizer_seconds", figures):
        corpora = read_corpora(settings.data)
        tokenizer = train_tokenizer(settings, corpora)
    with timed_as("tokens_seconds", figures):
        rows, held_out = corpora_rows(corpora, tokenizer, CONTEXT, task, seed=0, held_out_seed=HELD_OUT_SEED)
    of_validation = held_out["validation"][settings.data]
    figures["tokens"] = len(rows.ids) + len(of_validation.ids)
    figures["prepared_megabytes"] = peak_megabytes()
    vocabulary, pad_id = MaskVocabulary.of(tokenizer), masked_specials(tokenizer).pad_id
    model = new_model(settings, tokenizer, CONTEXT, task)
    optimizer = torch.optim.AdamW(model.parameters())
    feed = MaskedBatches(rows, vocabulary, pad_id=pad_id, max_tokens=1024, seed=0)
    validation = MaskedBatches(of_validation, vocabulary, pad_id=pad_id, max_tokens=8192, seed=0)
    with timed_as("steps_seconds", figures):
        batches = feed.epoch(0)
        for place in range(min(steps, len(batches))):
            losses = model.loss(feed.batch(batches[place])).values()
            torch.stack([loss.total / loss.count for loss in losses]).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        masked_score(model, validation, every=1 + len(of_validation.ids) // TOKENS_TO_WATCH)
        CountingBaselines(rows, vocabulary)
    figures["peak_megabytes"] = peak_megabytes()
    return figures
