"""Train sequence-to-sequence models on the same pairs, one after another under one budget, and compare them.

python -m train.translate                                  dates: two RNNs with attention against a Transformer
python -m train.translate --data human-machine.csv         the same on a file of pairs
python -m train.translate --data dates --locales all --models transformer
                                                           dates in every language
python -m train.translate --data multi30k --source de --target en --minutes 20
                                                           sentences: a folder of train.de, train.en, val.de, ...
python -m train.translate --data bible --models rnn-additive,rnn-general,transformer --minutes 20
python -m train.translate --data recall --models transformer,rnn-additive,rnn-location,rnn-none
python -m train.translate --init RUN --data more.csv       continue from a translator, on other pairs
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from rich.console import Console

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.pipelines.translator import Translator
from train.engine.loop import train
from train.engine.processes import Processes
from train.engine.results import finish, finished, part_id, run_figures
from train.engine.run_folder import create_run, run_job
from train.engine.sample_texts import translations
from train.engine.settings import LoopOptions
from train.engine.state import State
from train.engine.tokenizer_text import check_unknown
from train.engine.training_data import Feed
from train.translate.averaging import average_evaluated
from train.translate.bleu import Bleu
from train.translate.data import TranslationData, tokenizers_for
from train.translate.exact_match import ExactMatch
from train.translate.recipes import PRESETS, Recipe, Seq2SeqModel
from train.translate.settings import TranslateSettings
from train.translate.starting_model import recipes_of, tokenizer_kind, tokenizers_of, within_source
from train.translate.texts import are_sentences, bleu_tokenizer, sample

GUESSES = {
    "bpe": "the texts look like sentences: subwords and BLEU; for short strings, such as names: --tokenizer character",
    "character": "the texts look like short strings: characters and exact match; for sentences: --tokenizer bpe",
}
LONGEST_SENTENCE = 128
"""Tokens on a side of the longest training pairs of sentences, unless a flag sets another limit."""
LOCALES_VALIDATION = 2_000
"""Validation pairs used of dates in several locales. Pairs come in random order, so the first are a fair sample."""


@dataclass(frozen=True)
class Comparison:
    """What all models of a comparison share."""

    settings: TranslateSettings
    data: TranslationData
    measure: Bleu | ExactMatch
    preset: str
    beam: int
    average: int
    guess: str | None
    """What the texts were taken for, if no flag says it, and the flag that changes it."""
    init: Translator | None = None


def main(arguments: list[str] | None = None) -> None:
    run_job(TranslateSettings, "translate", compare, arguments)


def compare(settings: TranslateSettings, folder: Path, console: Console) -> None:
    """Train every model of `settings`, then write `results.json` and the pictures into `folder`."""
    comparison = prepare(settings)
    data, measure = comparison.data, comparison.measure
    recipes = recipes_of(settings, comparison.preset, comparison.init)
    create_run(folder, settings)
    sizes = ", ".join(f"{len(pairs):,} {split}" for split, pairs in data.pairs.items())
    console.print(f"{settings.data}: {sizes} pairs; runs on {settings.torch_device()}; writes {folder}")
    for line in filter(None, (comparison.guess, settings.overruled())):
        console.print(line)

    models = {name: train_one(name, recipe, comparison, folder / name, console) for name, recipe in recipes.items()}
    if not Processes.current().is_rank_0:
        return
    measure.draw(models, data.corpus[data.test_name], folder)
    results = {"data": settings.data, "seed": settings.seed, "scored_on": data.test_name, "models": models}
    finish(folder, results, settings.run_id)
    for table in measure.tables(models):
        console.print(table)
    console.print(f"\nresults, models and pictures are in {folder}")


def prepare(settings: TranslateSettings) -> Comparison:
    """Read the pairs, train tokenizers on them, encode them, and choose the measure and the preset that suit them."""
    processes = Processes.current()
    corpus = processes.local_rank_0_first(lambda: load_pairs(settings))
    pairs = sample(corpus["train"])
    init = None if settings.init is None else Translator.load(settings.init)
    kind, guess = tokenizer_kind(init) or settings.tokenizer_kind, None
    if kind is None:
        kind = "bpe" if are_sentences(pairs) else "character"
        guess = GUESSES[kind]
    measure: Bleu | ExactMatch = ExactMatch(settings.several_locales)
    if kind == "bpe":
        measure = Bleu(bleu_tokenizer(target for _, target in pairs))
    else:
        settings.refuse_idle("on short strings (--tokenizer character)", "vocab_size", "joint")
    beam, average = settings.beam or measure.beam, settings.average or measure.average
    if beam == 1:
        settings.refuse_idle("without a beam (--beam 1)", "alpha")
    if average == 1:
        settings.refuse_idle("with --average 1", "average_of")
    sizes: dict[str, Any] = dict(vocab_size=settings.vocab_size, joint=settings.joint)
    tokenizers = tokenizers_of(init) or processes.on_rank_0(lambda: tokenizers_for(corpus["train"], kind, **sizes))
    limit = within_source(settings.max_length or (LONGEST_SENTENCE if kind == "bpe" else None), init)
    data = processes.local_rank_0_first(lambda: TranslationData.of(corpus, *tokenizers, limit=limit))
    check_unknown({name: pairs.rows for name, pairs in data.pairs.items()}, settings.data)
    settings.warn_of_batches("max_tokens", data.pairs["train"].lengths)
    preset = settings.preset or ("tiny" if kind == "bpe" else "characters")
    if PRESETS[preset].tokenizer != kind:
        suited = ", ".join(name for name, each in PRESETS.items() if each.tokenizer == kind)
        warnings.warn(f"--preset {preset} is not for such texts (--tokenizer {kind}): {suited}", stacklevel=2)
    return Comparison(settings, data, measure, preset, beam, average, guess, init)


def load_pairs(settings: TranslateSettings) -> Mapping[str, datasets.Dataset]:
    named: dict[str, Any] = dict(source=settings.source, target=settings.target, locales=settings.locales)
    corpus = load(settings.data, kind="pairs", **named)
    if settings.several_locales:
        count = min(len(corpus["validation"]), LOCALES_VALIDATION)
        corpus["validation"] = corpus["validation"].select(range(count))
    return corpus


def train_one(name: str, recipe: Recipe, comparison: Comparison, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it and score it on the test split. A model that was scored before the run was interrupted
    keeps its report."""
    settings, data, measure = comparison.settings, comparison.data, comparison.measure
    run_id = part_id(settings.run_id, folder)
    if (report := finished(folder, run_id)) is not None:
        return report

    def evaluate(model: Seq2SeqModel) -> dict[str, float]:
        """The score of greedy translations, and the mean loss in nats per target token, on the validation split."""
        model.eval()
        with warnings.catch_warnings():
            # Early on no translation ends; what the final scores lack is said with them.
            warnings.filterwarnings("ignore", ".*translations are cut off")
            outputs = data.translations(model, "validation")
        score = measure.watched(outputs, data.corpus["validation"]["target"])
        return {measure.name: score, "loss": data.loss(model, "validation")}

    def rank(result: Mapping[str, Any]) -> tuple[float, ...]:
        """The better an evaluation, the higher."""
        return (-result["loss"],) if settings.choose_by == "loss" else (result[measure.name], -result["loss"])

    model = build(recipe, comparison)
    settings.set_threads(model.num_parameters())
    optimizer = recipe.optimizer(model, lr=recipe.lr)
    feed = Feed(data.pairs["train"], recipe.max_tokens, recipe.pool, settings.seed)
    options = replace(loop_options(recipe, comparison), run_id=run_id)
    judge: dict[str, Any] = dict(evaluate=evaluate, score=rank)
    held_out = data.corpus["validation"]
    samples = translations(data.translator, held_out["source"], held_out["target"]) if settings.samples else None
    state = train(model, optimizer, feed, options, folder, **judge, samples=samples, console=console, name=name)
    if not Processes.current().is_rank_0:
        return {}
    evaluations = len(state.history)
    if evaluations < comparison.average and (settings.average is not None or settings.average_of == "last"):
        mean = "is of all of them" if evaluations > 1 else "does not exist"
        warnings.warn(
            f"{name}: --average {comparison.average}: evaluations: {evaluations}, so the mean {mean} (--evaluations)",
            stacklevel=2,
        )
    averaged = average_evaluated(model, folder, state, count=comparison.average, of=settings.average_of, **judge)
    data.translator(model).save(folder)
    report = {**score_on_test(model, state, comparison), "averaged": averaged}
    finish(folder, report, run_id)
    return report


def build(recipe: Recipe, comparison: Comparison) -> Seq2SeqModel:
    """A new model, with dropout and label smoothing as flags give them, or that of `--init`."""
    settings, data = comparison.settings, comparison.data
    flags: dict[str, Any] = {"dropout": settings.dropout, "label_smoothing": settings.label_smoothing}
    # The talk's limit, or the longest source in the data. Users will translate longer sentences than those.
    longest = max(int(pairs.lengths[:, 0].max()) for pairs in data.pairs.values())
    max_length = max(30 if PRESETS[comparison.preset].tokenizer == "character" else 512, longest)
    torch.manual_seed(settings.seed)
    model = recipe.build(
        source_vocab_size=data.source_tokenizer.get_vocab_size(),
        target_vocab_size=data.target_tokenizer.get_vocab_size(),
        joint=data.source_tokenizer is data.target_tokenizer,
        max_length=max_length,
        max_extra_tokens=data.max_extra_tokens(comparison.measure.extra_tokens),
        **{name: value for name, value in flags.items() if value is not None},
    )
    return model.to(settings.torch_device())


def loop_options(recipe: Recipe, comparison: Comparison) -> LoopOptions:
    settings = comparison.settings
    short = PRESETS[comparison.preset].tokenizer == "character" and not settings.several_locales
    return settings.loop_options(
        minutes=1.0 if short else 10.0,
        lr=recipe.lr,
        schedule=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        clip=recipe.clip,
        accumulate=settings.accumulate * settings.processes,
        loss_reduction=recipe.loss_reduction,
        evaluations=settings.evaluations or (40 if short else 12),
        patience=settings.patience,
        keep_evaluated=comparison.average > 1,
        starts_trained=comparison.init is not None,
        choices=comparison.data.target_tokenizer.get_vocab_size(),
    )


def score_on_test(model: Seq2SeqModel, state: State, comparison: Comparison) -> dict[str, Any]:
    """The report of one model, on the test split if the corpus has one: no choice was made on it."""
    data, measure = comparison.data, comparison.measure
    split, beam, alpha = data.test_name, comparison.beam, comparison.settings.alpha
    outputs = data.translations(model, split, beam_size=beam, alpha=alpha)
    train_sources = texts(data.corpus["train"], "source")
    return {
        **measure.report(data.corpus[split], outputs, train_sources, state.history),
        "scored_on": split,
        "beam": beam,
        "alpha": alpha,
        **run_figures(model.num_parameters(), state),
        "validation": state.history,
    }


if __name__ == "__main__":
    main()
