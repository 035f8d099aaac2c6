"""Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

python -m train.translate                                  dates: two RNNs with attention against a Transformer
python -m train.translate --data human-machine.csv         the same on a file of pairs
python -m train.translate --data recall --models transformer,rnn-additive,rnn-location,rnn-none
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from rich.console import Console

from minitransformer.data import load
from minitransformer.data.batching import Seq2SeqData
from minitransformer.data.dates import format_of
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import RNNSeq2Seq, Transformer
from minitransformer.tokenization import train_character_tokenizer
from minitransformer.translation import Translator
from train.feed import Feed
from train.loop import LoopOptions, State, TrainingInterrupted, train
from train.recipes import RECIPES, Recipe, recipe_for
from train.report import draw, show, wide_console
from train.scoring import character_accuracy, exact_match, exact_match_by_group
from train.settings import Settings, create_run, open_run

DEFAULT_MINUTES = 1.0


@dataclass(frozen=True)
class TranslateSettings(Settings):
    """Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

    --minutes (of training, evaluation not counted; 1 if no length is given) and --steps are per model.
    """

    data: str = "dates"
    """dates, recall, hub:NAME, or the path of a table, of a folder, or of two aligned files without their suffix."""
    source: str | None = None
    """The column or suffix to translate from."""
    target: str | None = None
    """The column or suffix to translate into."""
    models: str = "rnn-location,rnn-additive,transformer"
    """Which to train, in this order: transformer, rnn-location (the talk's attention), rnn-additive (Bahdanau's),
    rnn-dot, rnn-general, rnn-concat (Luong's), rnn-none (without attention), talk (the talk's own training)."""

    lr: float | None = None
    """Peak learning rate. Default: what was best on the validation dates, model by model."""
    max_tokens: int | None = None
    """Source and target tokens of a batch, padding included. Default: 2,400."""
    pool: int = 1
    """Pairs are sorted by length within this many batches at a time: more of them save padding, but mix less.
    On dates the length gives the format away, and 1 learns best."""

    def validate(self) -> None:
        super().validate()
        for name in ("lr", "max_tokens", "pool"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name.replace('_', '-')} {value} must be more than 0")
        if unknown := [name for name in self.model_names() if name not in RECIPES]:
            raise InputError(f"--models {','.join(unknown)}: not one of {', '.join(RECIPES)}")

    def model_names(self) -> list[str]:
        names = [name.strip() for name in self.models.split(",") if name.strip()]
        if not names or len(set(names)) < len(names):
            raise InputError(f"--models {self.models!r}: name at least one, each once, separated by commas")
        return names


class Task:
    """The corpus, its two tokenizers and its batches: what all models share."""

    def __init__(self, settings: TranslateSettings):
        self.settings = settings
        self.corpus = load(settings.data, source=settings.source, target=settings.target)
        if "source" not in self.corpus["train"].column_names:
            raise InputError(f"--data {settings.data} holds no pairs: it has {self.corpus['train'].column_names}")
        train_split = self.corpus["train"]
        self.source_tokenizer = train_character_tokenizer(train_split["source"])
        self.target_tokenizer = train_character_tokenizer(train_split["target"])
        self.pairs = {
            name: Seq2SeqData(split, self.source_tokenizer, self.target_tokenizer)
            for name, split in self.corpus.items()
        }
        # The talk's limit, or the longest source there is.
        self.max_length = max(30, *(int(pairs.lengths[:, 0].max()) for pairs in self.pairs.values()))
        self.max_new_tokens = max(int(pairs.lengths[:, 1].max()) for pairs in self.pairs.values()) + 10
        self.test_split = self.corpus["test" if "test" in self.corpus else "validation"]

    def build(self, recipe: Recipe) -> Transformer | RNNSeq2Seq:
        torch.manual_seed(self.settings.seed)
        model = recipe.build(
            source_vocab_size=self.source_tokenizer.get_vocab_size(),
            target_vocab_size=self.target_tokenizer.get_vocab_size(),
            max_length=self.max_length,
        )
        return model.to(self.settings.torch_device())

    def translator(self, model: Transformer | RNNSeq2Seq) -> Translator:
        return Translator(model, self.source_tokenizer, self.target_tokenizer)

    def translations(self, model: Transformer | RNNSeq2Seq, split: datasets.Dataset) -> list[str]:
        # Bounded near the longest target, or models that cannot stop yet would take most of the time.
        return self.translator(model)(split["source"], max_new_tokens=self.max_new_tokens)

    def validate(self, model: Transformer | RNNSeq2Seq) -> dict[str, float]:
        """Exact match of greedy translations and mean loss in nats per target, on the validation split."""
        model.eval()
        split, pairs = self.corpus["validation"], self.pairs["validation"]
        outputs = self.translations(model, split)
        with torch.inference_mode():
            losses = [
                model.loss({key: value.to(model.device) for key, value in pairs.batch(rows).items()})["lm"]
                for rows in pairs.batches(8192, seed=None)
            ]
        loss = sum(part.total.item() for part in losses) / sum(part.count.item() for part in losses)
        return {"exact_match": exact_match(outputs, split["target"]), "loss": loss}


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        settings, folder = open_run(TranslateSettings, "translate", arguments)
        try:
            compare(settings, folder, wide_console())
        except (TrainingInterrupted, KeyboardInterrupt):
            print(f"stopped; to go on: python -m train.translate --resume {folder}")
            raise SystemExit(130) from None


def compare(settings: TranslateSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train every model of `settings`, then write `results.json` and the pictures into `folder`."""
    finished = folder / "results.json"
    if finished.exists():
        results = json.loads(finished.read_text(encoding="utf-8"))
        show(results["models"], console)
        return results
    task = Task(settings)
    device = settings.torch_device()
    create_run(folder, settings)
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in task.corpus.items())
    console.print(f"{settings.data}: {sizes} pairs; runs on {device}; writes {folder}")
    models = {name: train_one(name, task, folder / name, console) for name in settings.model_names()}
    results = {"data": settings.data, "seed": settings.seed, "models": models}
    write_json(finished, results)
    show(models, console)
    draw(models, task.test_split, folder)
    console.print(f"\nresults, models and pictures are in {folder}")
    return results


def train_one(name: str, task: Task, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it and score it on the test split, unless an earlier part of this run did."""
    report_file = folder / "results.json"
    if report_file.exists():
        return json.loads(report_file.read_text(encoding="utf-8"))
    settings = task.settings
    recipe = recipe_for(name, settings.data)
    recipe = replace(recipe, lr=settings.lr or recipe.lr, max_tokens=settings.max_tokens or recipe.max_tokens)
    model = task.build(recipe)
    settings.set_threads(model.num_parameters())
    unlimited = settings.minutes is None and settings.steps is None
    options = LoopOptions(
        lr=recipe.lr,
        steps=settings.steps,
        minutes=DEFAULT_MINUTES if unlimited else settings.minutes,
        schedule=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        clip=recipe.clip,
        loss_reduction=recipe.loss_reduction,
        evaluations=40,
        autocast=settings.autocast_dtype(),
    )
    state = train(
        model,
        recipe.optimizer(model, lr=recipe.lr),
        Feed(task.pairs["train"], recipe.max_tokens, settings.pool, settings.seed),
        options,
        folder,
        evaluate=task.validate,
        score=lambda result: (result["exact_match"], -result["loss"]),
        console=console,
        name=name,
    )
    task.translator(model).save(folder)
    report = score_on_test(task, model, state)
    write_json(report_file, report)
    return report


def score_on_test(task: Task, model: Transformer | RNNSeq2Seq, state: State) -> dict[str, Any]:
    """The figures of one model, on pairs that no choice was made on."""
    split = task.test_split
    outputs, references = task.translations(model, split), split["target"]
    report: dict[str, Any] = {
        "exact_match": exact_match(outputs, references),
        "character_accuracy": character_accuracy(outputs, references),
        "seconds": state.seconds,
        "seconds_to_99": next((e["seconds"] for e in state.history if e["exact_match"] >= 0.99), None),
        "parameters": model.num_parameters(),
        "tokens_per_second": state.tokens / state.seconds,
        "steps": state.step,
        "best_step": state.best_step,
        "validation": state.history,
    }
    groups = [format_of(text) for text in split["source"]]
    if set(groups) != {"other"}:
        report["by_format"] = exact_match_by_group(outputs, references, groups)
    return report


if __name__ == "__main__":
    main()
