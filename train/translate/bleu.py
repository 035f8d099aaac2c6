"""BLEU and chrF, for sentences: how they are computed, watched, reported, shown and drawn."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import datasets
from rich.table import Table
from sacrebleu.metrics import BLEU, CHRF
from tokenizers import Tokenizer

from minitransformer.pipelines.translator import Translator
from train.engine.console import table
from train.translate.reports import Groups, History, Reports, by_group, draw, groups_table, typical
from train.translate.texts import words

LENGTHS, LENGTH_GROUPS = (5, 10, 15, 20), ("1-5", "6-10", "11-15", "16-20", "21+")
SEEN, SEEN_GROUPS = (0, 2, 10, 100), ("never", "1-2", "3-10", "11-100", "101+")
"""The largest size in each group of sentences but the last, and what the groups are called."""
MAP_TOKENS = 24
"""The most source tokens, EOS included, of sentences whose attention is drawn, if there are such: more are hard to
read."""


def bleu(outputs: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> float:
    """`translation_scores(...)["bleu"]` alone, in a quarter of the time."""
    return BLEU(force=True, tokenize=tokenize).corpus_score(outputs, [references]).score


def translation_scores(outputs: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> dict[str, Any]:
    """`bleu` (Papineni et al. 2002), `bleu_lowercase` and `chrf` (Popović 2015) of the whole corpus, from 0 to 100, and
    sacreBLEU's `signatures` (Post 2018): only scores of the same signature can be compared.

    Both sides are plain text, which BLEU cuts into tokens as sacreBLEU's `tokenize` says. An empty output is scored
    like any other.
    """
    # sacreBLEU warns about text that looks tokenized; `force` silences all warnings but the first.
    tokens: dict[str, Any] = {"tokenize": tokenize}
    metrics = {"bleu": BLEU(**tokens), "bleu_lowercase": BLEU(lowercase=True, force=True, **tokens), "chrf": CHRF()}
    scores = {name: metric.corpus_score(outputs, [references]).score for name, metric in metrics.items()}
    return {**scores, "signatures": {name: str(metric.get_signature()) for name, metric in metrics.items()}}


def length_groups(sources: Iterable[str]) -> list[str]:
    """The group of each source by its number of words."""
    return [LENGTH_GROUPS[bisect_left(LENGTHS, len(words(source)))] for source in sources]


def rarity_groups(sources: Sequence[str], train_sources: Iterable[str]) -> list[str]:
    """The group of each source by how often its rarest word, in any case, occurs in the training sources."""
    lowered = [words(source.lower()) for source in sources]
    known = set(chain.from_iterable(lowered))  # to count all words of a large corpus would take too much memory
    seen = Counter(word for text in train_sources for word in words(text.lower()) if word in known)
    return [SEEN_GROUPS[bisect_left(SEEN, min((seen[word] for word in found), default=0))] for found in lowered]


@dataclass(frozen=True)
class Bleu:
    """The measure of a comparison on sentences. sacreBLEU's tokenizer `tokenize` divides them into words."""

    tokenize: str = "13a"

    name: ClassVar[str] = "bleu"
    beam: ClassVar[int] = 5
    """Default of --beam."""
    average: ClassVar[int] = 5
    """Default of --average."""
    extra_tokens: ClassVar[int] = 50
    """A translation may have so many tokens more than its source, or more if the data need it (Vaswani et al. 2017)."""

    def watched(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """The score during training."""
        return bleu(outputs, references, self.tokenize)

    def report(
        self, pairs: datasets.Dataset, outputs: Sequence[str], train_sources: Iterable[str], history: History
    ) -> dict[str, Any]:
        """The scores of a trained model on `pairs`, for which its outputs are given."""
        sources, references = list(pairs["source"]), list(pairs["target"])
        score = partial(bleu, tokenize=self.tokenize)
        groups = partial(by_group, self.name, score, outputs, references)
        return {
            **translation_scores(outputs, references, self.tokenize),
            "by_length": groups(length_groups(sources)),
            "by_rarest_word": groups(rarity_groups(sources, train_sources)),
        }

    def tables(self, models: Reports) -> Iterator[Table]:
        """A row a model; then BLEU by source length and by the rarest source word, a column a model."""
        columns = ("parameters", "BLEU", "BLEU lower-cased", "chrF", "validation BLEU", "minutes", "target tokens/s")
        first = next(iter(models.values()))
        rows = [
            (
                name,
                f"{report['parameters']:,}",
                *(f"{report[score]:.1f}" for score in ("bleu", "bleu_lowercase", "chrf")),
                validation_bleu(report),
                f"{report['seconds'] / 60:.1f}",
                f"{report['tokens_per_second']:,.0f}",
            )
            for name, report in models.items()
        ]
        title = f"on the {first['scored_on']} pairs; beam {first['beam']}, length penalty {first['alpha']:g}"
        signatures = "\n".join(f"{name}: {signature}" for name, signature in first["signatures"].items())
        yield table(title, ("model", *columns), rows, caption=signatures)
        for breakdown, label, all_groups, title in (
            ("by_length", "words", LENGTH_GROUPS, "BLEU by the length of the source"),
            ("by_rarest_word", "seen", SEEN_GROUPS, "BLEU by how often training text has the rarest source word"),
        ):
            columns_of: dict[str, Groups] = {name: report[breakdown] for name, report in models.items()}
            names = [group for group in all_groups if group in first[breakdown]]
            yield groups_table(title, label, columns_of, names, self.name)

    def draw(self, models: Reports, pairs: datasets.Dataset, folder: Path) -> None:
        """Write BLEU against minutes, and the attention of every model over the same sentences, as pictures."""
        tokenizer = Translator.load(folder / next(iter(models))).source_tokenizer
        # Good translations seldom equal their reference, so none is marked as wrong.
        examples = [(text, None) for text in chosen_sentences(pairs["source"], tokenizer)]
        draw(models, examples, folder, self.name, unit="minutes", of_unit=60.0)


def validation_bleu(report: Mapping[str, Any]) -> str:
    """Greedy BLEU on the validation pairs of the saved weights: the mean of several evaluations' weights if it was
    kept, else the best evaluation, which with --choose-by loss need not have the highest BLEU."""
    means = [evaluation for evaluation in report["validation"] if "averaged" in evaluation]
    best = [evaluation for evaluation in report["validation"] if evaluation["step"] == report["best_step"]]
    return next((f"{evaluation['bleu']:.1f}" for evaluation in means or best), "none")


def chosen_sentences(sources: Iterable[str], tokenizer: Tokenizer, most: int = 4) -> list[str]:
    """Sentences of typical length in tokens, and of `MAP_TOKENS` at most if there are such."""
    distinct = list(dict.fromkeys(sources))
    encodings = tokenizer.encode_batch(distinct, add_special_tokens=False)
    return [distinct[i] for i in typical([len(e.ids) + 1 for e in encodings], most, at_most=MAP_TOKENS)]
