"""Fine-tune a pretrained model, or train one from scratch, to give texts labels; baselines on the same split.

python -m train.finetune                                         MiniLM on sentences of film reviews
python -m train.finetune --init runs/pretrain-bert-...           a model pretrained here
python -m train.finetune --init scratch --encoder rnn            a recurrent baseline
python -m train.finetune --data mine.tsv                         any table of texts and labels
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from minitransformer.data import load
from minitransformer.data.labels import LabelledData
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import SequenceClassifier
from minitransformer.optim import adamw, layer_heights, layer_scales
from minitransformer.pipelines.base import warn_of_cut
from train.engine.console import wide_console
from train.engine.feed import Feed
from train.engine.loop import LoopOptions, train
from train.engine.processes import Processes, joined
from train.engine.run_folder import create_run, open_run
from train.engine.settings import Settings
from train.engine.signals import resumable
from train.engine.tokenizer_text import warn_of_small_vocabulary
from train.finetune.baselines import INSTALL, available, baselines
from train.finetune.metrics import scores
from train.finetune.report import read_report, show
from train.finetune.starting_model import VOCAB_SIZE, Recipe, starting_point

EVALUATION_TOKENS = 8192


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """Train a classifier of texts: its weights, `tokenizer.json` and figures go into the run folder.

    The best of its evaluations on the validation split is kept and scored on the test split, beside two baselines.
    """

    settings_file: ClassVar[str] = "settings.json"  # config.json is the model's

    data: str = "reviews"
    """reviews, hub:NAME, a table of texts and labels (.csv, .tsv, .jsonl, .parquet), or a folder of train, validation
    (or dev) and test tables."""
    text: str | None = None
    """The column of the texts. Default: text, sentence, or the only one besides the labels."""
    label: str | None = None
    """The column of the labels. Default: label."""

    init: Path = Path("minilm")
    """minilm, scratch, a run of train.pretrain or train.finetune, or a BERT or GPT-2 folder of Hugging Face's."""
    encoder: Literal["bert", "gpt", "transformer", "rnn"] | None = None
    """For --init scratch. Default: transformer."""
    d_model: int | None = None
    """For --init scratch. Default: 128."""
    num_layers: int | None = None
    """For --init scratch. Default: 2, of rnn 1."""
    num_heads: int | None = None
    """For --init scratch. Default: 4."""
    vocab_size: int | None = None
    """For --init scratch: pieces of words, learned from the training texts. Default: 8,000."""

    pooling: Literal["first", "last", "mean", "max", "attention"] | None = None
    """How the states of a text become one. Default: mean, of rnn attention."""
    epochs: int | None = None
    """Times through the training texts, where --steps or --minutes do not end it sooner. Default: best on reviews."""
    lr: float | None = None
    """Peak learning rate. Default: best on reviews."""
    layer_decay: float | None = None
    """Each block learns at this times the rate of the one above it; 1 for all alike."""
    freeze: int = 0
    """Leave the embeddings and so many blocks above them as they are; 0 trains everything."""
    label_smoothing: float = 0.0
    dropout: float | None = None
    """Of encoder and head. Default: the encoder's own and 0.1; from scratch, best on reviews."""
    weight_decay: float = 0.01
    warmup: float = 0.1
    """The share of the first epoch in which the learning rate rises."""
    max_tokens: int = 1024
    """Tokens of a batch, padding included."""
    pool: int = 50
    """Texts are sorted by length within this many batches at a time: more of them save padding, but mix less."""
    accumulate: int = 1
    """Batches in a step, of each process."""
    evaluations: int = 6
    """On the validation split, evenly over the run."""
    patience: int = 4
    """Stop after so many evaluations without a better one."""
    baselines: bool = True
    """Naive Bayes and logistic regression on the same split, by scikit-learn."""

    def validate(self) -> None:
        super().validate()
        sizes = ("d_model", "num_layers", "num_heads", "vocab_size")
        counts = ("epochs", "max_tokens", "pool", "accumulate", "evaluations", "patience")
        for name in (*sizes, *counts, "lr", "layer_decay"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be more than 0")
        for name in ("label_smoothing", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0 and less than 1")
        for name in ("freeze", "warmup", "weight_decay"):
            value = getattr(self, name)
            if not value >= 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0")
        if str(self.init) != "scratch":
            given = [f"--{name.replace('_', '-')}" for name in ("encoder", *sizes) if getattr(self, name) is not None]
            if given:
                raise InputError(f"{', '.join(given)}: for --init scratch; --init {self.init} has its own")
        elif self.encoder == "rnn" and self.num_heads is not None:
            raise InputError("--num-heads: --encoder rnn has no heads")

    @property
    def batches_in_step(self) -> int:
        """Of all processes together."""
        return self.accumulate * self.processes

    def encoder_name(self) -> str:
        return self.encoder or "transformer"


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user(), joined():
        settings, folder = open_run(FinetuneSettings, "finetune", arguments)
        with resumable("finetune", folder):
            finetune(settings, folder, wide_console())


def finetune(settings: FinetuneSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one classifier, save it, and score it and the baselines on the test split."""
    finished = folder / "results.json"
    if finished.exists():
        results = read_report(finished)
        show(results, folder, console)
        return results
    processes = Processes.current()
    corpus = processes.local_rank_0_first(
        lambda: load(settings.data, kind="labelled", text=settings.text, label=settings.label)
    )
    names = corpus["train"].features["label"].names
    classifier, recipe, origin = processes.local_rank_0_first(lambda: starting_point(settings, corpus))
    model = classifier.model.to(settings.torch_device())
    limit = model.encoder.config.max_length
    pad_id = getattr(model.encoder.config, "pad_id", 0)
    data = processes.local_rank_0_first(
        lambda: {name: LabelledData(split, classifier.tokenizer, limit, pad_id) for name, split in corpus.items()}
    )
    warn_of_cut("text", sum(part.cut for part in data.values()), sum(map(len, data.values())), limit)
    settings.set_threads(model.num_parameters())
    parameters = model.num_parameters()
    freeze(model, settings.freeze)
    if str(settings.init) == "scratch":
        warn_of_small_vocabulary(classifier.tokenizer, settings.vocab_size or VOCAB_SIZE)
    lr, layer_decay = settings.lr or recipe.lr, settings.layer_decay or recipe.layer_decay
    scales = None if layer_decay == 1.0 else layer_scales(model, layer_decay)
    optimizer = adamw(model, lr=lr, weight_decay=settings.weight_decay, betas=(0.9, 0.999), eps=1e-8, scales=scales)
    feed = Feed(data["train"], settings.max_tokens, settings.pool, settings.seed)
    create_run(folder, settings)
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in data.items())
    console.print(
        f"{settings.data}: {sizes} texts, labels {', '.join(names)}; {origin}; writes {folder}",
        markup=False,
    )

    options = LoopOptions(
        lr=lr,
        steps=number_of_steps(settings, recipe, feed),
        minutes=settings.minutes,
        warmup_steps=math.ceil(settings.warmup * len(feed.epoch(0)) / settings.batches_in_step),
        evaluations=settings.evaluations,
        patience=settings.patience,
        unit="texts",
        autocast=settings.autocast_dtype(),
        accumulate=settings.batches_in_step,
        **settings.safeguards(),
    )
    state = train(
        model,
        optimizer,
        feed,
        options,
        folder,
        evaluate=lambda model: evaluate(model, data["validation"]),
        score=lambda result: (result["accuracy"], -result["loss"]),
        console=console,
        name="finetune",
    )
    if not processes.is_rank_0:
        return {}
    classifier.save(folder)

    test = "test" if "test" in data else "validation"
    results = {
        "data": settings.data,
        "init": str(settings.init),
        "seed": settings.seed,
        "pooling": model.config.pooling,
        "labels": names,
        "scored_on": test,
        **scores(all_logits(model, data[test]).argmax(dim=1).tolist(), data[test].labels.tolist(), len(names)),
        "validation_accuracy": max(evaluation["accuracy"] for evaluation in state.history),
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "parameters": parameters,
        "steps": state.step,
        "best_step": state.best_step,
        "texts_per_second": state.tokens / state.seconds,
        "baselines": {},
        "history": state.history,
    }
    if settings.baselines and available():
        results["baselines"] = baselines(corpus, test, len(names))
    elif settings.baselines:
        console.print(INSTALL, markup=False, highlight=False)
    write_json(finished, results)
    show(results, folder, console)
    return results


def number_of_steps(settings: FinetuneSettings, recipe: Recipe, feed: Feed) -> int | None:
    """The steps of --epochs or --steps, whichever are fewer; None where --minutes alone is given."""
    epochs = settings.epochs
    if epochs is None and settings.steps is None and settings.minutes is None:
        epochs = recipe.epochs
    if epochs is None:
        return settings.steps
    steps = math.ceil(sum(len(feed.epoch(number)) for number in range(epochs)) / settings.batches_in_step)
    return steps if settings.steps is None else min(steps, settings.steps)


def freeze(model: SequenceClassifier, blocks: int) -> None:
    """Take the embeddings and so many blocks above them out of training."""
    if not blocks:
        return
    heights = layer_heights(model)
    if blocks >= (top := max(heights.values())):
        raise InputError(f"--freeze {blocks}: the encoder has {top - 1} blocks")
    for parameter, height in heights.items():
        parameter.requires_grad_(height > blocks)


def evaluate(model: SequenceClassifier, data: LabelledData) -> dict[str, float]:
    """Accuracy and mean loss, in nats."""
    logits = all_logits(model, data)
    return {
        "accuracy": (logits.argmax(dim=1) == data.labels).float().mean().item(),
        "loss": F.cross_entropy(logits, data.labels.long()).item(),
    }


@torch.inference_mode()
def all_logits(model: SequenceClassifier, data: LabelledData) -> Float[Tensor, "texts labels"]:
    """Those of every text, in order."""
    logits = torch.empty(len(data), model.config.num_labels)
    for rows in data.batches(EVALUATION_TOKENS, seed=None):
        batch = {name: tensor.to(model.device) for name, tensor in data.batch(rows).items()}
        logits[rows] = model(batch["ids"], batch.get("valid")).float().cpu()
    return logits


if __name__ == "__main__":
    main()
