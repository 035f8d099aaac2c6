"""Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

python -m train.translate                                  dates: two RNNs with attention against a Transformer
python -m train.translate --data human-machine.csv         the same on a file of pairs
python -m train.translate --data dates --locales all --models transformer
                                                           dates in every language
python -m train.translate --data multi30k --source de --target en --minutes 20
                                                           sentences: a folder of train.de, train.en, val.de, ...
python -m train.translate --data bible --models rnn-additive,rnn-general,transformer --minutes 20
python -m train.translate --data recall --models transformer,rnn-additive,rnn-location,rnn-none
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import RNNSeq2Seq, Transformer
from train.engine.averaging import average_evaluated
from train.engine.checkpoints import Checkpoints
from train.engine.console import wide_console
from train.engine.feed import Feed
from train.engine.loop import LoopOptions, train
from train.engine.processes import Processes, joined
from train.engine.run_folder import create_run, open_run
from train.engine.signals import resumable
from train.engine.state import State
from train.translate.by_locale import report_by_locale
from train.translate.data import TranslationData, are_sentences, tokenizers_for
from train.translate.measures import Bleu, ExactMatch, MatchByLocale, Measure
from train.translate.recipes import Recipe, recipe_for
from train.translate.report import draw, read_comparison, read_report, show
from train.translate.settings import TranslateSettings


@dataclass(frozen=True)
class Task:
    """One comparison: the data, what it goes by, and which recipes."""

    settings: TranslateSettings
    data: TranslationData
    measure: Measure
    preset: str

    @classmethod
    def of(cls, settings: TranslateSettings) -> "Task":
        processes = Processes.current()
        named: dict[str, Any] = dict(source=settings.source, target=settings.target, locales=settings.locales)
        corpus = processes.local_rank_0_first(lambda: load(settings.data, **named))
        if "source" not in corpus["train"].column_names:
            raise InputError(f"--data {settings.data} holds no pairs: it has {corpus['train'].column_names}")
        if settings.several_locales:  # pairs come in random order: the first are a fair sample, quickly scored
            corpus["validation"] = corpus["validation"].select(range(min(len(corpus["validation"]), 2_000)))
        sentences = settings.data != "dates" and are_sentences(corpus)
        kind = settings.tokenizer or ("bpe" if sentences else "character")
        sizes: dict[str, Any] = dict(vocab_size=settings.vocab_size, joint=settings.joint)
        tokenizers = processes.on_rank_0(lambda: tokenizers_for(corpus["train"], kind, **sizes))
        limit = settings.max_length if kind == "bpe" else None
        data = processes.local_rank_0_first(lambda: TranslationData.of(corpus, *tokenizers, limit=limit))
        measure = Bleu() if kind == "bpe" else MatchByLocale() if settings.several_locales else ExactMatch()
        preset = settings.preset or ("tiny" if kind == "bpe" else "characters")
        settings.check_models(preset)
        return cls(settings, data, measure, preset)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipe of each model, as the flags change it."""
        s = self.settings
        changes = {"lr": s.lr, "max_tokens": s.max_tokens, "pool": s.pool, "warmup_steps": s.warmup_steps}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        data = "locales" if s.several_locales else s.data
        recipes = {name: recipe_for(name, self.preset, data) for name in s.model_names(self.preset)}
        if s.optimizer is not None:
            recipes = {name: recipe.with_optimizer(s.optimizer) for name, recipe in recipes.items()}
        return {name: replace(recipe, **given) for name, recipe in recipes.items()}

    def build(self, recipe: Recipe) -> Transformer | RNNSeq2Seq:
        torch.manual_seed(self.settings.seed)
        changes: dict[str, Any] = {"dropout": self.settings.dropout, "label_smoothing": self.settings.label_smoothing}
        model = recipe.build(
            source_vocab_size=self.data.source_tokenizer.get_vocab_size(),
            target_vocab_size=self.data.target_tokenizer.get_vocab_size(),
            joint=self.data.joint,
            # The talk's limit, or the longest source there is; of sentences, users will have longer ones.
            max_length=max(30 if self.preset == "characters" else 512, self.data.longest[0]),
            **{name: value for name, value in changes.items() if value is not None},
        )
        return model.to(self.settings.torch_device())

    def validate(self, model: Transformer | RNNSeq2Seq) -> dict[str, float]:
        """The score of greedy translations and the mean loss in nats per target, on the validation split."""
        model.eval()
        outputs = self.data.translations(model, "validation")
        score = self.measure.watched(outputs, self.data.corpus["validation"]["target"])
        return {self.measure.name: score, "loss": self.data.loss(model, "validation")}

    def rank(self, result: Mapping[str, Any]) -> tuple[float, ...]:
        """The better a result, the higher."""
        if self.settings.choose_by == "loss":
            return (-result["loss"],)
        return result[self.measure.name], -result["loss"]

    @property
    def average(self) -> int:
        return self.settings.average or (5 if self.measure.name == "bleu" else 1)

    @property
    def beam(self) -> int:
        return self.settings.beam or (5 if self.measure.name == "bleu" else 1)

    def loop_options(self, recipe: Recipe) -> LoopOptions:
        s = self.settings
        short = self.preset == "characters" and not s.several_locales
        default_minutes = (1.0 if short else 10.0) if s.steps is None else None
        return LoopOptions(
            lr=recipe.lr,
            steps=s.steps,
            minutes=default_minutes if s.minutes is None else s.minutes,
            schedule=recipe.schedule,
            warmup_steps=recipe.warmup_steps,
            clip=recipe.clip,
            accumulate=s.accumulate * s.processes,
            loss_reduction=recipe.loss_reduction,
            evaluations=s.evaluations or (40 if short else 12),
            patience=s.patience,
            keep_evaluated=self.average > 1,
            autocast=s.autocast_dtype(),
            **s.safeguards(),
        )


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user(), joined():
        settings, folder = open_run(TranslateSettings, "translate", arguments)
        with resumable("translate", folder):
            compare(settings, folder, wide_console())


def compare(settings: TranslateSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train every model of `settings`, then write `results.json` and the pictures into `folder`."""
    finished = folder / "results.json"
    if finished.exists():
        results = read_comparison(finished)
        show(results["models"], console)
        return results
    task = Task.of(settings)
    recipes, device = task.recipes, settings.torch_device()
    create_run(folder, settings)
    sizes = ", ".join(f"{len(pairs):,} {name}" for name, pairs in task.data.pairs.items())
    console.print(f"{settings.data}: {sizes} pairs; runs on {device}; writes {folder}")
    models = {name: train_one(name, recipe, task, folder / name, console) for name, recipe in recipes.items()}
    if not Processes.current().is_rank_0:
        return {}
    results = {"data": settings.data, "seed": settings.seed, "scored_on": task.data.test_name, "models": models}
    report_by_locale(models, folder, console)
    draw(models, task.data.corpus[task.data.test_name], folder)
    write_json(finished, results)  # last: a run with results is not gone on with
    show(models, console)
    console.print(f"\nresults, models and pictures are in {folder}")
    return results


def train_one(name: str, recipe: Recipe, task: Task, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it and score it on the test split, unless an earlier part of this run did."""
    report_file = folder / "results.json"
    if report_file.exists():
        return read_report(report_file)
    settings = task.settings
    model = task.build(recipe)
    settings.set_threads(model.num_parameters())
    state = train(
        model,
        recipe.optimizer(model, lr=recipe.lr),
        Feed(task.data.pairs["train"], recipe.max_tokens, recipe.pool, settings.seed),
        task.loop_options(recipe),
        folder,
        evaluate=task.validate,
        score=task.rank,
        console=console,
        name=name,
    )
    if not Processes.current().is_rank_0:
        return {}
    chosen: dict[str, Any] = dict(count=task.average, of=settings.average_of)
    averaged = average_evaluated(model, folder, state, **chosen, evaluate=task.validate, score=task.rank)
    task.data.translator(model).save(folder)
    report = {**score_on_test(task, model, state), "averaged": averaged}
    write_json(report_file, report)
    Checkpoints(folder / "checkpoints").remove_evaluated()
    return report


def score_on_test(task: Task, model: Transformer | RNNSeq2Seq, state: State) -> dict[str, Any]:
    """The figures of one model, on pairs that no choice was made on where the corpus has such."""
    data, split = task.data, task.data.test_name
    outputs = data.translations(model, split, beam_size=task.beam, alpha=task.settings.alpha)
    pairs = data.corpus[split]
    return {
        **task.measure.report(pairs, outputs, texts(data.corpus["train"], "source")),
        **task.measure.of_run(state),
        "scored_on": split,
        "beam": task.beam,
        "alpha": task.settings.alpha,
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "parameters": model.num_parameters(),
        "tokens_per_second": state.tokens / state.seconds,
        "steps": state.step,
        "best_step": state.best_step,
        "validation": state.history,
    }


if __name__ == "__main__":
    main()
