"""Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

python -m train.translate                                  dates: two RNNs with attention against a Transformer
python -m train.translate --data human-machine.csv         the same on a file of pairs
python -m train.translate --data multi30k --source de --target en --minutes 20
                                                           sentences: a folder of train.de, train.en, val.de, ...
python -m train.translate --data bible --models rnn-additive,rnn-general,transformer --minutes 20
python -m train.translate --data recall --models transformer,rnn-additive,rnn-location,rnn-none
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from minitransformer.data import load
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import RNNSeq2Seq, Transformer
from train.distributed import Processes, joined
from train.feed import Feed
from train.loop import LoopOptions, State, train
from train.measures import Bleu, ExactMatch, Measure
from train.recipes import OPTIMIZERS, PRESETS, Recipe, recipe_for
from train.report import draw, show, wide_console
from train.settings import Settings, create_run, open_run
from train.signals import resumable
from train.translation_data import TranslationData, are_sentences, tokenizers_for


@dataclass(frozen=True)
class TranslateSettings(Settings):
    """Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

    --minutes (of training, evaluation not counted; 1 on short strings, 10 on sentences, if no length is given) and
    --steps are per model.
    """

    data: str = "dates"
    """dates, recall, bible, hub:NAME, or the path of a table, of a folder of train and validation files, or of two
    aligned files without their suffix."""
    source: str | None = None
    """The column or suffix to translate from."""
    target: str | None = None
    """The column or suffix to translate into."""
    models: str | None = None
    """Which to train, in this order: transformer, rnn-additive (Bahdanau's attention), rnn-dot, rnn-general, rnn-concat
    (Luong's), rnn-none (without attention); on short strings also rnn-location (the talk's attention) and talk (the
    talk's own training). Default: rnn-location,rnn-additive,transformer; on sentences transformer."""
    preset: Literal["characters", "tiny", "small"] | None = None
    """Sizes and rates. Default: characters (66,000 parameters, chosen on dates) with the tokenizer of that name, else
    tiny."""

    tokenizer: Literal["character", "bpe"] | None = None
    """Default: character, unless a source is longer than 40 characters: then they are sentences."""
    vocab_size: int = 4000
    """Of bpe: pieces of words."""
    joint: bool = True
    """One vocabulary of bpe for source and target, and one table of embeddings, rather than two."""
    max_length: int = 128
    """Of bpe: training pairs with more tokens on a side are left out."""

    lr: float | None = None
    """Peak learning rate. Default, as of all that follow: what was best on validation, model by model."""
    optimizer: Literal["adamw", "muon"] | None = None
    """muon: Muon for the matrices inside Transformer blocks, AdamW for the rest."""
    warmup_steps: int | None = None
    dropout: float | None = None
    label_smoothing: float | None = None
    max_tokens: int | None = None
    """Source and target tokens of a batch, padding included."""
    pool: int | None = None
    """Pairs are sorted by length within this many batches at a time: more of them save padding, but mix less.
    On dates the length gives the format away, and 1 learns best."""
    accumulate: int = 1
    """Batches in a step, of each process."""
    evaluations: int | None = None
    """On the validation split, evenly over the run. Default: 40; on sentences 12."""
    patience: int | None = None
    """Stop after so many evaluations without a better one. Default: go on to the end."""
    choose_by: Literal["score", "loss"] = "score"
    """Which weights are the best: those of the highest exact match or BLEU on validation, or of the lowest loss."""

    beam: int | None = None
    """Beam size of the final translations; 1 is greedy, as are those while training. Default: 5; on short strings 1."""
    alpha: float = 0.6
    """Length penalty of the beam (Wu et al. 2016): 0 for none; more prefers longer translations."""

    def validate(self) -> None:
        super().validate()
        for name in ("lr", "max_tokens", "pool", "max_length", "vocab_size", "accumulate", "evaluations", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} {value} must be more than 0")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value} must be at least 0 and less than 1")
        if self.beam is not None and self.beam < 1:
            raise InputError(f"--beam {self.beam} must be at least 1")
        for name in ("alpha", "warmup_steps"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} {value} must be a number of at least 0")
        self.check_models(self.preset)

    def check_models(self, preset: str | None) -> None:
        """Raises `InputError` for a model that the preset (None: no preset) has no recipe for."""
        known = {name for each in ([preset] if preset else PRESETS) for name in PRESETS[each]}
        if unknown := [name for name in self.model_names(preset) if name not in known]:
            where = f" of --preset {preset}" if preset else ""
            raise InputError(f"--models {','.join(unknown)}: not one{where}: {', '.join(sorted(known))}")

    def model_names(self, preset: str | None) -> list[str]:
        default = "rnn-location,rnn-additive,transformer" if preset == "characters" else "transformer"
        names = [name.strip() for name in (default if self.models is None else self.models).split(",") if name.strip()]
        if not names or len(set(names)) < len(names):
            raise InputError(f"--models {self.models!r}: name at least one, each once, separated by commas")
        return names


@dataclass(frozen=True)
class Task:
    """One comparison: the data, what it goes by, and which recipes."""

    settings: TranslateSettings
    data: TranslationData
    measure: Measure
    preset: str

    @classmethod
    def of(cls, settings: TranslateSettings) -> "Task":
        corpus = load(settings.data, source=settings.source, target=settings.target)
        if "source" not in corpus["train"].column_names:
            raise InputError(f"--data {settings.data} holds no pairs: it has {corpus['train'].column_names}")
        kind = settings.tokenizer or ("bpe" if are_sentences(corpus) else "character")
        tokenizers = tokenizers_for(corpus["train"], kind, vocab_size=settings.vocab_size, joint=settings.joint)
        data = TranslationData.of(corpus, *tokenizers, limit=settings.max_length if kind == "bpe" else None)
        measure = Bleu() if kind == "bpe" else ExactMatch()
        preset = settings.preset or ("tiny" if kind == "bpe" else "characters")
        settings.check_models(preset)
        return cls(settings, data, measure, preset)

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipe of each model, as the flags change it."""
        s = self.settings
        changes = {
            "lr": s.lr,
            "max_tokens": s.max_tokens,
            "pool": s.pool,
            "warmup_steps": s.warmup_steps,
            "optimizer": None if s.optimizer is None else OPTIMIZERS[s.optimizer],
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return {name: replace(recipe_for(name, self.preset, s.data), **given) for name in s.model_names(self.preset)}

    def build(self, recipe: Recipe) -> Transformer | RNNSeq2Seq:
        torch.manual_seed(self.settings.seed)
        changes = {"dropout": self.settings.dropout, "label_smoothing": self.settings.label_smoothing}
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

    def rank(self, result: dict[str, float]) -> tuple[float, ...]:
        """The better a result, the higher."""
        if self.settings.choose_by == "loss":
            return (-result["loss"],)
        return result[self.measure.name], -result["loss"]

    @property
    def beam(self) -> int:
        return self.settings.beam or (5 if self.measure.name == "bleu" else 1)

    def loop_options(self, recipe: Recipe) -> LoopOptions:
        s = self.settings
        short = self.preset == "characters"
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
        results = json.loads(finished.read_text(encoding="utf-8"))
        show(results["models"], console)
        return results
    task = Task.of(settings)
    recipes = task.recipes
    create_run(folder, settings)
    sizes = ", ".join(f"{len(pairs):,} {name}" for name, pairs in task.data.pairs.items())
    console.print(f"{settings.data}: {sizes} pairs; runs on {settings.torch_device()}; writes {folder}")
    models = {name: train_one(name, recipe, task, folder / name, console) for name, recipe in recipes.items()}
    if not Processes.current().is_main:
        return {}
    results = {"data": settings.data, "seed": settings.seed, "scored_on": task.data.test_name, "models": models}
    draw(models, task.data.corpus[task.data.test_name], folder)
    write_json(finished, results)  # last: a run with results is not gone on with
    show(models, console)
    console.print(f"\nresults, models and pictures are in {folder}")
    return results


def train_one(name: str, recipe: Recipe, task: Task, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it and score it on the test split, unless an earlier part of this run did."""
    report_file = folder / "results.json"
    if report_file.exists():
        return json.loads(report_file.read_text(encoding="utf-8"))
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
    if not Processes.current().is_main:
        return {}
    task.data.translator(model).save(folder)
    report = score_on_test(task, model, state)
    write_json(report_file, report)
    return report


def score_on_test(task: Task, model: Transformer | RNNSeq2Seq, state: State) -> dict[str, Any]:
    """The figures of one model, on pairs that no choice was made on where the corpus has such."""
    data, split = task.data, task.data.test_name
    outputs = data.translations(model, split, beam_size=task.beam, alpha=task.settings.alpha)
    pairs = data.corpus[split]
    return {
        **task.measure.report(pairs["source"], outputs, pairs["target"], data.corpus["train"]["source"]),
        **task.measure.of_run(state),
        "scored_on": split,
        "beam": task.beam,
        "alpha": task.settings.alpha,
        "seconds": state.seconds,
        "parameters": model.num_parameters(),
        "tokens_per_second": state.tokens / state.seconds,
        "steps": state.step,
        "best_step": state.best_step,
        "validation": state.history,
    }


if __name__ == "__main__":
    main()
