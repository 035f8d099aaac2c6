"""`python -m train.pretrain bert`: pretrain a masked model. Read `pretrain` from top to bottom."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import MaskVocabulary
from minitransformer.data.packing import NO_LABEL
from minitransformer.models import BERT
from minitransformer.pipelines.base import load_with_tokenizer, save
from minitransformer.pretrained.folders import checkpoint_folder
from minitransformer.tokenization import masked_specials
from train.engine.console import table
from train.engine.loop import train
from train.engine.processes import Processes
from train.engine.results import finish, run_figures, show_run
from train.engine.run_folder import create_run, run_job
from train.engine.sample_texts import filled_gaps
from train.engine.state import State
from train.engine.tokenizer_text import check_unknown, warn_of_small_vocabulary
from train.engine.training_data import evaluation_tokens
from train.pretrain.bert.corpora import read_corpora, validation_sentences
from train.pretrain.bert.counting_baselines import TITLES, CountingBaselines
from train.pretrain.bert.rows import HELD_OUT_SEED, corpora_rows
from train.pretrain.bert.scores import masked_score, total
from train.pretrain.bert.settings import SENTENCE_TASKS, BERTSettings
from train.pretrain.bert.starting_model import (
    DEFAULT_CONTEXT,
    new_model,
    train_tokenizer,
    with_heads,
)

DEFAULT_MINUTES = 4.0
TOKENS_TO_WATCH = 40_000
"""Validation tokens that each evaluation during training reads, about. The final figures read all held-out tokens."""


def main(arguments: list[str] | None = None) -> None:
    run_job(BERTSettings, "pretrain bert", pretrain, arguments)


def pretrain(settings: BERTSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it, and score it on everything held out, beside two baselines."""
    processes = Processes.current()
    corpora = processes.local_rank_0_first(lambda: read_corpora(settings.data, settings.text))
    torch.manual_seed(settings.seed)
    context = settings.context or DEFAULT_CONTEXT
    if settings.init is None:
        loaded, tokenizer = None, processes.on_rank_0(lambda: train_tokenizer(settings, corpora))
    else:
        loaded, tokenizer = load_with_tokenizer(checkpoint_folder(settings.init), BERT, "not a BERT")
        settings.require_context_within(loaded)
        context = settings.context or min(context, loaded.config.max_length)
    task = SENTENCE_TASKS[settings.objective]
    train_rows, held_out_rows = processes.local_rank_0_first(
        lambda: corpora_rows(corpora, tokenizer, context, task, settings.seed)
    )
    of_split = {f"{split} ({name})": rows for split, parts in held_out_rows.items() for name, rows in parts.items()}
    check_unknown({"train": train_rows, **of_split}, settings.data)
    pairs = int((train_rows.columns["label"] != NO_LABEL).sum())
    sentence_head = task if pairs else None
    if loaded is None:
        model = new_model(settings, tokenizer, context, sentence_head)
    else:
        model = with_heads(loaded, sentence_head)
    model = model.to(settings.torch_device())

    vocabulary, pad_id = MaskVocabulary.of(tokenizer), masked_specials(tokenizer).pad_id
    batches = partial(MaskedBatches, vocabulary=vocabulary, pad_id=pad_id, units=settings.mask_units)
    feed = batches(train_rows, max_tokens=settings.batch_tokens, seed=settings.seed, rate=settings.mask_rate)
    size = tokenizer.get_vocab_size()
    tokens = evaluation_tokens(1 + size // 7)  # one in seven is predicted
    # Every held-out token to predict is masked: a token left as it is would give itself away.
    scored = partial(batches, max_tokens=tokens, seed=HELD_OUT_SEED, masked=1.0, replaced=0.0)
    held_out = {split: {name: scored(rows) for name, rows in parts.items()} for split, parts in held_out_rows.items()}
    settings.warn_of_batches("batch_tokens", train_rows.lengths)
    settings.set_threads(model.num_parameters())
    create_run(folder, settings)
    console.print(
        f"{settings.data}: {len(train_rows.ids):,} training tokens in {len(train_rows):,} rows, "
        f"{pairs:,} of them pairs of sentences; {size:,} kinds of tokens; writes {folder}"
    )
    if loaded is None:
        warn_of_small_vocabulary(tokenizer, settings.vocab_size)

    watched = held_out["validation"].values()
    every = 1 + sum(len(data.rows.ids) for data in watched) // TOKENS_TO_WATCH
    state = train(
        model,
        settings.new_optimizer(model),
        feed,
        settings.loop_options(minutes=DEFAULT_MINUTES, unit="targets", choices=size),
        folder,
        evaluate=lambda model: total(masked_score(model, data, every=every) for data in watched).figures(),
        samples=filled_gaps(tokenizer, validation_sentences(corpora), context) if settings.samples else None,
        console=console,
        name=settings.objective,
    )
    if not processes.is_rank_0:
        return {}
    save(model, {"tokenizer.json": tokenizer}, folder)

    results = {
        "data": settings.data,
        "objective": settings.objective,
        "vocab_size": size,
        "context": context,
        "seed": settings.seed,
        **run_figures(model.num_parameters(), state, read=tokens_read(feed, state)),
        "validation": state.history,
    }
    baselines = CountingBaselines(train_rows, vocabulary)
    if baselines.counted < len(train_rows.ids):
        console.print(f"the baselines count {baselines.counted:,} of the training tokens, spread over all of them")
    for split in [split for split, parts in held_out.items() if parts]:
        figures = held_out_figures(model, baselines, held_out[split])
        show_split(split, settings.objective, figures, console)
        results[f"{split}_loss"] = figures.pop("loss")
        results |= {name if split == "validation" else f"test_{name}": value for name, value in figures.items()}
    finish(folder, results, settings.run_id)
    show_run(results, folder, console)
    return results


def held_out_figures(
    model: BERT, baselines: CountingBaselines, held_out: Mapping[str, MaskedBatches]
) -> dict[str, Any]:
    """Loss and accuracy on one split, of the model and of the baselines on the same masked tokens; also by corpus."""
    by_data = {name: {"model": masked_score(model, data), **baselines.scores(data)} for name, data in held_out.items()}
    whole = {kind: total(scores[kind] for scores in by_data.values()) for kind in ("model", *TITLES)}
    return {
        **whole["model"].figures(),
        "masked_tokens": whole["model"].tokens,
        "baselines": {kind: whole[kind].figures() for kind in TITLES},
        "by_data": {name: {kind: s.figures() for kind, s in scores.items()} for name, scores in by_data.items()},
    }


def show_split(split: str, objective: str, figures: dict[str, Any], console: Console) -> None:
    """`figures` are the results on one split."""
    rows = {objective: figures, **{title: figures["baselines"][name] for name, title in TITLES.items()}}
    shown = ((name, f"{row['loss']:.3f}", f"{row['accuracy']:.1%}") for name, row in rows.items())
    title = f"{figures['masked_tokens']:,} masked tokens of {split} text"
    console.print(table(title, ("", "loss (nats)", "top-1 accuracy"), shown))
    if "sentence_accuracy" in figures:
        console.print(f"pairs of sentences: {figures['sentence_accuracy']:.1%} right", highlight=False)


def tokens_read(feed: MaskedBatches, state: State) -> int:
    """How many real tokens, masked or not, all batches so far had."""
    batches, tokens = feed.epoch(state.epoch), state.epoch * len(feed.rows.ids)
    for place in range(state.position):
        tokens += int(feed.rows.lengths[torch.tensor(batches[place]) % len(feed.rows)].sum())
    return tokens


if __name__ == "__main__":
    main()
