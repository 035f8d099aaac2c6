"""What a comparison of translators of sentences shows: BLEU and chrF, by length and by rare words, and against time."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import datasets
from rich.table import Table
from tokenizers import Tokenizer

from minitransformer.pipelines.translator import Translator
from minitransformer.plots import learning_curves
from train.translate.attention_pictures import draw_attention

MAP_TOKENS = 12
"""Source tokens, EOS included, of the sentences whose attention is shown: more would not be readable."""


class ByLength(TypedDict):
    words: str
    count: int
    bleu: float


class ByRarestWord(TypedDict):
    seen: str
    count: int
    bleu: float


class Evaluation(TypedDict):
    step: int
    seconds: float
    bleu: float


class Report(TypedDict):
    """What of a model's results is shown."""

    parameters: int
    bleu: float
    bleu_lowercase: float
    chrf: float
    beam: int
    alpha: float
    signatures: dict[str, str]
    seconds: float
    best_step: int
    tokens_per_second: float
    scored_on: NotRequired[str]
    by_length: NotRequired[list[ByLength]]
    by_rarest_word: NotRequired[list[ByRarestWord]]
    validation: list[Evaluation]


def groups(report: Mapping[str, Any]) -> tuple[int, ...]:
    """What reports have to have in common, to stand in one table: as many groups of sentences."""
    return tuple(len(report.get(key, ())) for key in ("by_length", "by_rarest_word"))


def tables(models: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """The table of results, and BLEU by source length and by the rarest source word where the reports have them."""
    first = next(iter(models.values()))
    table = Table(
        title=f"on the {first.get('scored_on', 'test')} pairs; beam {first['beam']}, length penalty {first['alpha']:g}"
    )
    table.caption = "\n".join(f"{name}: {signature}" for name, signature in first["signatures"].items())
    table.add_column("model")
    columns = ("parameters", "BLEU", "BLEU lower-cased", "chrF", "validation BLEU", "minutes", "target tokens/s")
    for column in columns:
        table.add_column(column, justify="right")
    for name, report in models.items():
        table.add_row(
            name,
            f"{report['parameters']:,}",
            *(f"{report[score]:.1f}" for score in ("bleu", "bleu_lowercase", "chrf")),
            validation_bleu(report),
            f"{report['seconds'] / 60:.1f}",
            f"{report['tokens_per_second']:,.0f}",
        )
    yield table
    for breakdown, label, title in (
        ("by_length", "words", "BLEU by the length of the source"),
        ("by_rarest_word", "seen", "BLEU by how often training text has the rarest word of the source"),
    ):
        if first.get(breakdown):
            yield _breakdown(title, label, {name: report[breakdown] for name, report in models.items()})


def validation_bleu(report: Mapping[str, Any]) -> str:
    """Greedy BLEU on the validation pairs of the weights that were saved: of the mean of several evaluations' weights
    where it was taken, else of the best evaluation, which by its loss need not have the highest BLEU."""
    means = [evaluation for evaluation in report["validation"] if "averaged" in evaluation]
    best = [evaluation for evaluation in report["validation"] if evaluation["step"] == report["best_step"]]
    return next((f"{evaluation['bleu']:.1f}" for evaluation in means or best), "none")


def _breakdown(title: str, label: str, models: Mapping[str, Iterable[Mapping[str, Any]]]) -> Table:
    """A row a group of sentences, and a column a model."""
    table = Table(title=title)
    for column in (label, "sentences", *models):
        table.add_column(column, justify="left" if column == label else "right")
    for groups in zip(*models.values(), strict=True):
        table.add_row(groups[0][label], f"{groups[0]['count']:,}", *(f"{group['bleu']:.1f}" for group in groups))
    return table


def draw(models: Mapping[str, Any], test_split: datasets.Dataset, folder: Path) -> None:
    """BLEU against minutes, and the attention of every model over the same short sentences."""
    curves = {
        name: [(0.0, 0.0)] + [(e["seconds"] / 60, e["bleu"]) for e in report["validation"]]
        for name, report in models.items()
    }
    learning_curves(
        curves,
        folder / "learning_curves.png",
        xlabel="training time, minutes",
        ylabel="BLEU on validation pairs",
        percent=False,
    )
    translators = {name: Translator.load(folder / name) for name in models}
    tokenizer = next(iter(translators.values())).source_tokenizer
    # A good translation seldom equals its reference, so none is marked as wrong.
    draw_attention(translators, [(text, None) for text in chosen_sentences(test_split["source"], tokenizer)], folder)


def chosen_sentences(sources: Iterable[str], tokenizer: Tokenizer, most: int = 4) -> list[str]:
    """The longest sentences of up to `MAP_TOKENS` tokens, the first ones where there are more; else the shortest."""
    distinct = list(dict.fromkeys(sources))
    encodings = tokenizer.encode_batch(distinct, add_special_tokens=False)
    lengths = {text: len(encoding.ids) + 1 for text, encoding in zip(distinct, encodings, strict=True)}
    return sorted(distinct, key=lambda text: (lengths[text] > MAP_TOKENS, abs(lengths[text] - MAP_TOKENS)))[:most]
