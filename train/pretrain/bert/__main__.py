"""`python -m train.pretrain bert`: read `pretrain` from top to bottom."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import MaskVocabulary
from minitransformer.data.sentences import NO_LABEL
from minitransformer.errors import reported_to_user
from minitransformer.files import atomic, write_json
from minitransformer.models import BERT
from minitransformer.tokenization import (
    masked_specials,
)
from train.engine.console import wide_console
from train.engine.loop import train
from train.engine.processes import Processes, joined
from train.engine.run_folder import create_run, open_run
from train.engine.signals import resumable
from train.engine.state import State
from train.engine.tokenizer_text import warn_of_small_vocabulary
from train.pretrain.bert.corpora import read_corpora
from train.pretrain.bert.report import NAMES, read_report, show
from train.pretrain.bert.rows import corpora_rows
from train.pretrain.bert.scores import CountingBaselines, Score, masked_score
from train.pretrain.bert.settings import SENTENCE_TASKS, UNITS, BERTSettings
from train.pretrain.bert.starting_model import (
    choose_context,
    load_masked,
    new_model,
    train_tokenizer,
    vocabulary_size,
    with_heads,
)

DEFAULT_MINUTES = 4.0
# Scored during training; the figures at the end are of everything held out.
TOKENS_TO_WATCH = 40_000
HELD_OUT_SEED = 20_181_011
"""Of the masks of held-out text, which are the same in every run over the same rows."""


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user(), joined():
        settings, folder = open_run(BERTSettings, "pretrain bert", arguments)
        with resumable("pretrain bert", folder):
            pretrain(settings, folder, wide_console())


def pretrain(settings: BERTSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it, and score it on all that was held out, beside the two baselines."""
    finished = folder / "results.json"
    if finished.exists():
        results = read_report(finished)
        show(results, folder, console)
        return results
    processes = Processes.current()
    corpora = processes.local_rank_0_first(lambda: read_corpora(settings.data))
    torch.manual_seed(settings.seed)
    loaded = None if settings.init is None else load_masked(settings.init)
    tokenizer = processes.on_rank_0(lambda: train_tokenizer(settings, corpora)) if loaded is None else loaded[1]
    context = choose_context(settings, None if loaded is None else loaded[0])
    task = SENTENCE_TASKS[settings.objective]
    training_rows, held_out_rows = processes.local_rank_0_first(
        lambda: corpora_rows(corpora, tokenizer, context, task, seed=settings.seed, held_out_seed=HELD_OUT_SEED)
    )
    has_pairs = bool((training_rows.labels != NO_LABEL).any())
    if loaded is None:
        model = new_model(settings, tokenizer, context, task if has_pairs else None)
    else:
        model = with_heads(loaded[0], task if has_pairs else None)
    model = model.to(settings.torch_device())
    vocabulary = MaskVocabulary.of(tokenizer)
    pad_id = masked_specials(tokenizer).pad_id
    units = "words" if settings.whole_words else UNITS[settings.objective]
    feed = MaskedBatches(
        training_rows,
        vocabulary,
        pad_id=pad_id,
        max_tokens=settings.batch_tokens,
        seed=settings.seed,
        units=units,
        rate=settings.mask_rate,
    )
    # Held-out tokens that were picked are all masked: one that is left as it is would be a gift.
    held_out = {
        split: {
            name: MaskedBatches(
                rows,
                vocabulary,
                pad_id=pad_id,
                max_tokens=8192,
                seed=HELD_OUT_SEED,
                units=units,
                masked=1.0,
                replaced=0.0,
            )
            for name, rows in of_split.items()
        }
        for split, of_split in held_out_rows.items()
    }
    settings.set_threads(model.num_parameters())
    create_run(folder, settings)
    size = tokenizer.get_vocab_size()
    console.print(
        f"{settings.data}: {len(training_rows.ids):,} training tokens in {len(training_rows.labels):,} rows, "
        f"{size:,} kinds; writes {folder}"
    )
    if loaded is None:
        warn_of_small_vocabulary(tokenizer, vocabulary_size(settings))

    watched = sum(len(data.rows.ids) for data in held_out["validation"].values())
    every = 1 + watched // TOKENS_TO_WATCH
    state = train(
        model,
        settings.new_optimizer(model),
        feed,
        settings.loop_options(default_minutes=DEFAULT_MINUTES, unit="targets"),
        folder,
        evaluate=lambda model: total(masked_scores(model, held_out["validation"], every=every)).figures(),
        score=lambda result: (-result["loss"],),
        console=console,
        name=settings.objective,
    )
    if not processes.is_rank_0:
        return {}
    model.save(folder)
    with atomic(folder / "tokenizer.json") as temporary:
        tokenizer.save(str(temporary))

    results = {
        "data": settings.data,
        "objective": settings.objective,
        "seed": settings.seed,
        "parameters": model.num_parameters(),
        "vocab_size": size,
        "context": context,
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "steps": state.step,
        "best_step": state.best_step,
        "tokens_per_second": tokens_read(feed, state) / state.seconds,
    }
    baselines = CountingBaselines(training_rows, vocabulary)
    if baselines.counted < len(training_rows.ids):
        console.print(f"the baselines are counts of {baselines.counted:,} of the training tokens, from all over them")
    for split in [split for split, parts in held_out.items() if parts]:
        figures = held_out_figures(model, baselines, held_out[split])
        results[f"{split}_loss"] = figures.pop("loss")
        results |= {name if split == "validation" else f"test_{name}": value for name, value in figures.items()}
    results["validation"] = state.history
    write_json(finished, results)
    show(results, folder, console)
    return results


def masked_scores(model: BERT, held_out: Mapping[str, MaskedBatches], *, every: int = 1) -> dict[str, Score]:
    return {name: masked_score(model, data, every=every) for name, data in held_out.items()}


def total(scores: Mapping[str, Score]) -> Score:
    return functools.reduce(Score.plus, scores.values())


def held_out_figures(
    model: BERT, baselines: CountingBaselines, held_out: Mapping[str, MaskedBatches]
) -> dict[str, Any]:
    """Loss and accuracy on one split, those of the baselines on the same masked tokens, and both for each corpus."""
    scores = masked_scores(model, held_out)
    of_baselines = {name: baselines.scores(data) for name, data in held_out.items()}
    return {
        **total(scores).figures(),
        "masked_tokens": total(scores).tokens,
        "baselines": {
            kind: total({name: kinds[kind] for name, kinds in of_baselines.items()}).figures() for kind in NAMES
        },
        "by_data": {
            name: {"model": score.figures(), **{kind: s.figures() for kind, s in of_baselines[name].items()}}
            for name, score in scores.items()
        },
    }


def tokens_read(feed: MaskedBatches, state: State) -> int:
    """Real tokens of all batches so far, masked or not."""
    offsets, count, batches = feed.rows.offsets, len(feed.rows.labels), feed.epoch(state.epoch)
    tokens = state.epoch * len(feed.rows.ids)
    for place in range(state.position):
        rows = torch.tensor(batches[place]) % count
        tokens += int((offsets[rows + 1] - offsets[rows]).sum())
    return tokens


if __name__ == "__main__":
    main()
