"""What a comparison goes by: exact match of short strings such as dates, or BLEU of sentences."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import datasets

from minitransformer.data.dates import format_of, locale_of
from train.engine.state import State
from train.translate.scoring import character_accuracy, exact_match, exact_match_by_group
from train.translate.translation_scores import bleu, by_length, by_rarest_word, translation_scores


@runtime_checkable
class Measure(Protocol):
    """Scores translations: quickly while training, in full at the end."""

    name: str

    def watched(self, outputs: Sequence[str], references: Sequence[str]) -> float: ...

    def report(
        self, pairs: datasets.Dataset, outputs: Sequence[str], train_sources: Iterable[str]
    ) -> dict[str, Any]: ...

    def of_run(self, state: State) -> dict[str, Any]: ...


class ExactMatch:
    """The share of outputs that equal their reference, also by date format where there are dates."""

    name = "exact_match"

    def watched(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        return exact_match(outputs, references)

    def report(self, pairs: datasets.Dataset, outputs: Sequence[str], train_sources: Iterable[str]) -> dict[str, Any]:
        references = pairs["target"]
        return {
            "exact_match": exact_match(outputs, references),
            "character_accuracy": character_accuracy(outputs, references),
            **self.groups(pairs, outputs),
        }

    def groups(self, pairs: datasets.Dataset, outputs: Sequence[str]) -> dict[str, Any]:
        formats = [format_of(text) for text in pairs["source"]]
        known = set(formats) != {"other"}
        return {"by_format": exact_match_by_group(outputs, pairs["target"], formats)} if known else {}

    def of_run(self, state: State) -> dict[str, Any]:
        return {"seconds_to_99": next((e["seconds"] for e in state.history if e["exact_match"] >= 0.99), None)}


class MatchByLocale(ExactMatch):
    """The share of outputs that equal their reference, also by locale."""

    def groups(self, pairs: datasets.Dataset, outputs: Sequence[str]) -> dict[str, Any]:
        locales = [locale_of(style) for style in pairs["format"]]
        return {"by_locale": exact_match_by_group(outputs, pairs["target"], locales)}


class Bleu:
    """BLEU of all sentences, by sacrebleu; in the end lower-cased too, chrF, and BLEU of short and long, common and
    rare."""

    name = "bleu"

    def watched(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        return bleu(outputs, references)

    def report(self, pairs: datasets.Dataset, outputs: Sequence[str], train_sources: Iterable[str]) -> dict[str, Any]:
        sources, references = pairs["source"], pairs["target"]
        return {
            **translation_scores(outputs, references).to_dict(),
            "by_length": by_length(sources, outputs, references),
            "by_rarest_word": by_rarest_word(sources, outputs, references, train_sources),
        }

    def of_run(self, state: State) -> dict[str, Any]:
        return {}
