"""Fine-tune a pretrained model, or train one from scratch, to give texts labels; baselines on the same split.

python -m train.finetune                                         MiniLM on sentences of film reviews
python -m train.finetune --init runs/pretrain-bert-...           a model pretrained here
python -m train.finetune --init scratch --encoder rnn            a recurrent baseline
python -m train.finetune --data mine.tsv                         any table of texts and labels
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from rich.console import Console
from torch import Tensor

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.data.labelled_batches import LabelledData
from minitransformer.errors import InputError
from minitransformer.models import SequenceClassifier
from minitransformer.optim import adamw, layer_heights, layer_scales
from minitransformer.pipelines.base import warn_of_cut
from train.engine.loop import train
from train.engine.processes import Processes
from train.engine.results import finish, run_figures
from train.engine.run_folder import create_run, run_job
from train.engine.sample_texts import guessed_labels
from train.engine.tokenizer_text import check_unknown, warn_of_small_vocabulary
from train.engine.training_data import Feed, evaluation_tokens
from train.finetune.baselines import baselines
from train.finetune.metrics import scores, show, shown_labels
from train.finetune.settings import FinetuneSettings
from train.finetune.starting_model import Recipe, starting_model


def main(arguments: list[str] | None = None) -> None:
    run_job(FinetuneSettings, "finetune", finetune, arguments)


def finetune(settings: FinetuneSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one classifier, save it, and score it and the baselines on the test split."""
    processes = Processes.current()
    corpus = processes.local_rank_0_first(
        lambda: load(settings.data, kind="labelled", text=settings.text, label=settings.label)
    )
    names = corpus["train"].features["label"].names
    classifier, recipe, origin = processes.local_rank_0_first(lambda: starting_model(settings, corpus["train"]))
    model = classifier.model.to(settings.torch_device())
    limit = model.encoder.config.max_length
    pad_id = getattr(model.encoder.config, "pad_id", 0)
    data = processes.local_rank_0_first(
        lambda: {name: LabelledData(split, classifier.tokenizer, limit, pad_id) for name, split in corpus.items()}
    )
    warn_of_cut("text", sum(part.cut for part in data.values()), sum(map(len, data.values())), limit)
    check_unknown({name: part.rows for name, part in data.items()}, settings.data)
    settings.set_threads(model.num_parameters())
    parameters = model.num_parameters()
    freeze(model, settings.freeze)
    if settings.from_scratch:
        warn_of_small_vocabulary(classifier.tokenizer, settings.vocab_size)
    lr, layer_decay = settings.lr or recipe.lr, settings.layer_decay or recipe.layer_decay
    scales = None if layer_decay == 1.0 else layer_scales(model, layer_decay)
    optimizer = adamw(model, lr=lr, weight_decay=settings.weight_decay, betas=(0.9, 0.999), eps=1e-8, scales=scales)
    settings.warn_of_batches("max_tokens", data["train"].lengths)
    feed = Feed(data["train"], settings.max_tokens, settings.pool, settings.seed)
    create_run(folder, settings)
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in data.items())
    console.print(
        f"{settings.data}: {sizes} texts, labels {shown_labels(names)}; {origin}; writes {folder}",
        markup=False,
    )

    options = settings.loop_options(
        lr=lr,
        steps=number_of_steps(settings, recipe, feed),
        warmup_steps=math.ceil(settings.warmup * len(feed.epoch(0)) / settings.batches_per_step),
        evaluations=settings.evaluations,
        patience=settings.patience,
        unit="texts",
        accumulate=settings.batches_per_step,
        choices=len(names),
        starts_trained=recipe.has_head,
    )
    held_out, labels = (texts(corpus["validation"], column) for column in ("text", "label"))
    samples = guessed_labels(classifier.tokenizer, held_out, map(names.__getitem__, labels))
    state = train(
        model,
        optimizer,
        feed,
        options,
        folder,
        evaluate=lambda model: evaluate(model, data["validation"]),
        score=lambda result: (result["accuracy"], -result["loss"]),
        samples=samples if settings.samples else None,
        console=console,
        name="finetune",
    )
    if not processes.is_rank_0:
        return {}
    classifier.save(folder)

    test = "test" if "test" in data else "validation"
    predicted, _ = guesses_and_loss(model, data[test])
    results = {
        "data": settings.data,
        "init": str(settings.init),
        "seed": settings.seed,
        "pooling": model.config.pooling,
        "labels": names,
        "scored_on": test,
        **scores(predicted.tolist(), data[test].labels.tolist(), names),
        "validation_accuracy": max(evaluation["accuracy"] for evaluation in state.history),
        **run_figures(parameters, state, unit="texts"),
        "baselines": baselines(corpus, test, names) if settings.baselines else {},
        "history": state.history,
    }
    finish(folder, results, settings.run_id)
    show(results, folder, console)
    return results


def number_of_steps(settings: FinetuneSettings, recipe: Recipe, feed: Feed) -> int | None:
    """The steps of --epochs or --steps, whichever are fewer; None if only --minutes limits the run."""
    epochs = settings.epochs
    if epochs is None and settings.steps is None and settings.minutes is None:
        epochs = recipe.epochs
    if epochs is None:
        return settings.steps
    steps = math.ceil(sum(len(feed.epoch(number)) for number in range(epochs)) / settings.batches_per_step)
    return steps if settings.steps is None else min(steps, settings.steps)


def freeze(model: SequenceClassifier, blocks: int) -> None:
    """Exclude the embeddings and this many blocks above them from training."""
    if not blocks:
        return
    heights = layer_heights(model)
    if blocks >= (top := max(heights.values())):
        raise InputError(f"--freeze {blocks}: the encoder has {top - 1} blocks")
    for parameter, height in heights.items():
        parameter.requires_grad_(height > blocks)


def evaluate(model: SequenceClassifier, data: LabelledData) -> dict[str, float]:
    """Accuracy and mean loss, in nats."""
    guesses, loss = guesses_and_loss(model, data)
    return {"accuracy": (guesses == data.labels).float().mean().item(), "loss": loss}


@torch.inference_mode()
def guesses_and_loss(model: SequenceClassifier, data: LabelledData) -> tuple[Int[Tensor, "texts"], float]:
    """The likeliest label of every text, in order, and the mean loss."""
    guesses, nats = torch.empty(len(data), dtype=torch.long), 0.0
    for rows in data.batches(evaluation_tokens(model.config.num_labels), seed=None):
        batch = {name: tensor.to(model.device) for name, tensor in data.batch(rows).items()}
        logits = model(batch["ids"], batch.get("valid")).float()
        guesses[rows] = logits.argmax(dim=1).cpu()
        nats += F.cross_entropy(logits, batch["labels"], reduction="sum").item()
    return guesses, nats / len(data)


if __name__ == "__main__":
    main()
