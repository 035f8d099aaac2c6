"""BLEU and chrF, for sentences: how they are computed, watched, reported, shown and drawn."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
from rich.table import Table
from sacrebleu.metrics import BLEU, CHRF
from tokenizers import Regex, Tokenizer, pre_tokenizers

from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from minitransformer.plots import learning_curves
from train.engine.console import table
from train.translate.tables_and_pictures import History, Reports, draw_attention

# The largest size in each group of sentences. Below the first group is "never", above the last "101+", say.
LENGTHS = (5, 10, 15, 20)
TIMES_SEEN = (2, 10, 100)
MAP_TOKENS = 12
"""Source tokens, EOS included, of the sentences whose attention is drawn: more would not be readable."""

# Letters with their marks, and numbers; hyphens and apostrophes join them.
_WORD = pre_tokenizers.Split(Regex(r"[\p{L}\p{M}\p{N}]+(?:[-'’][\p{L}\p{M}\p{N}]+)*"), behavior="removed", invert=True)


def bleu(outputs: Sequence[str], references: Sequence[str]) -> float:
    """`translation_scores(...)["bleu"]` alone, in a quarter of the time."""
    _require_same_count(outputs=outputs, references=references)
    return BLEU(force=True).corpus_score(outputs, [references]).score


def translation_scores(outputs: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """`bleu` (Papineni et al. 2002; tokens "13a"), `bleu_lowercase` and `chrf` (Popović 2015) of the whole corpus, from
    0 to 100, and sacreBLEU's `signatures` (Post 2018): only scores of the same signature can be compared.

    Both sides are plain text, not tokens. An empty output is scored like any other. Raises `InputError` for no
    sentences and for unequal numbers of them.
    """
    _require_same_count(outputs=outputs, references=references)
    # sacreBLEU warns about text that looks tokenized; `force` silences all warnings but the first.
    metrics = {"bleu": BLEU(), "bleu_lowercase": BLEU(lowercase=True, force=True), "chrf": CHRF()}
    scores = {name: metric.corpus_score(outputs, [references]).score for name, metric in metrics.items()}
    return {**scores, "signatures": {name: str(metric.get_signature()) for name, metric in metrics.items()}}


def by_length(sources: Sequence[str], outputs: Sequence[str], references: Sequence[str]) -> list[dict[str, Any]]:
    """BLEU of sentences whose sources have 1-5, 6-10, 11-15, 16-20 and 21+ words, as
    {"words": "1-5", "count": sentences, "bleu": score}. Groups without sentences are left out."""
    _require_same_count(sources=sources, outputs=outputs, references=references)
    return _by_size("words", [len(words(source)) for source in sources], LENGTHS, outputs, references)


def by_rarest_word(
    sources: Sequence[str], outputs: Sequence[str], references: Sequence[str], train_sources: Iterable[str]
) -> list[dict[str, Any]]:
    """BLEU of sentences by how often the rarest word of the source, in any case, occurs in the training sources: never,
    1-2, 3-10, 11-100 and 101+ times, as {"seen": "1-2", "count": sentences, "bleu": score}. Groups without sentences
    are left out."""
    _require_same_count(sources=sources, outputs=outputs, references=references)
    lowered = [words(source.lower()) for source in sources]
    known = set(chain.from_iterable(lowered))  # to count all words of a large corpus would take too much memory
    seen = Counter(word for text in train_sources for word in words(text.lower()) if word in known)
    return _by_size("seen", [min(seen[word] for word in found) for found in lowered], TIMES_SEEN, outputs, references)


def words(text: str) -> list[str]:
    """The words of a text without punctuation; of a text that is all punctuation, its pieces between spaces.

    In writing without spaces, such as Chinese, everything between two punctuation marks is one word. Raises
    `InputError` for a blank text.
    """
    found = [word for word, _ in _WORD.pre_tokenize_str(text)] or text.split()
    if not found:
        raise InputError(f"a source is {text!r}, which has no words: leave out pairs with an empty side")
    return found


def _by_size(
    name: str, sizes: Sequence[int], ends: Sequence[int], outputs: Sequence[str], references: Sequence[str]
) -> list[dict[str, Any]]:
    """BLEU of the sentences whose size is 0, up to each of `ends`, and larger than the last."""
    starts = (0, 1, *(end + 1 for end in ends))
    labels = ["never", *(f"{start}-{end}" for start, end in zip(starts[1:], ends, strict=False)), f"{starts[-1]}+"]
    groups: dict[int, list[int]] = defaultdict(list)
    for row, size in enumerate(sizes):
        groups[max(place for place, start in enumerate(starts) if start <= size)].append(row)
    return [
        {
            name: labels[place],
            "count": len(rows),
            "bleu": bleu([outputs[row] for row in rows], [references[row] for row in rows]),
        }
        for place, rows in sorted(groups.items())
    ]


def _require_same_count(**columns: Sequence[str]) -> None:
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(
            f"scores need one sentence or more, and equally many on each side, but the numbers are {counts}"
        )


class Bleu:
    """The measure of a comparison on sentences."""

    name = "bleu"
    beam = 5
    """Default of --beam."""
    average = 5
    """Default of --average."""

    def watched(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """The score during training."""
        return bleu(outputs, references)

    def report(
        self, pairs: datasets.Dataset, outputs: Sequence[str], train_sources: Iterable[str], history: History
    ) -> dict[str, Any]:
        """The scores of a trained model on `pairs`, for which its outputs are given."""
        sources, references = pairs["source"], pairs["target"]
        return {
            **translation_scores(outputs, references),
            "by_length": by_length(sources, outputs, references),
            "by_rarest_word": by_rarest_word(sources, outputs, references, train_sources),
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
        for breakdown, label, title in (
            ("by_length", "words", "BLEU by the length of the source"),
            ("by_rarest_word", "seen", "BLEU by how often training text has the rarest word of the source"),
        ):
            of_models = zip(*(report[breakdown] for report in models.values()), strict=True)
            rows = [
                (groups[0][label], f"{groups[0]['count']:,}", *(f"{group['bleu']:.1f}" for group in groups))
                for groups in of_models
            ]
            yield table(title, (label, "sentences", *models), rows)

    def draw(self, models: Reports, pairs: datasets.Dataset, folder: Path) -> None:
        """Write BLEU against minutes, and the attention of every model over the same short sentences, as pictures."""
        curves = {
            name: [(0.0, 0.0)] + [(e["seconds"] / 60, e["bleu"]) for e in report["validation"]]
            for name, report in models.items()
        }
        path, labels = folder / "learning_curves.png", ("training time, minutes", "BLEU on validation pairs")
        learning_curves(curves, path, xlabel=labels[0], ylabel=labels[1], percent=False)
        translators = {name: Translator.load(folder / name) for name in models}
        tokenizer = next(iter(translators.values())).source_tokenizer
        # Good translations seldom equal their reference, so none is marked as wrong.
        draw_attention(translators, [(text, None) for text in chosen_sentences(pairs["source"], tokenizer)], folder)


def validation_bleu(report: Mapping[str, Any]) -> str:
    """Greedy BLEU on the validation pairs of the saved weights: the mean of several evaluations' weights if it was
    kept, else the best evaluation, which with --choose-by loss need not have the highest BLEU."""
    means = [evaluation for evaluation in report["validation"] if "averaged" in evaluation]
    best = [evaluation for evaluation in report["validation"] if evaluation["step"] == report["best_step"]]
    return next((f"{evaluation['bleu']:.1f}" for evaluation in means or best), "none")


def chosen_sentences(sources: Iterable[str], tokenizer: Tokenizer, most: int = 4) -> list[str]:
    """The first of the longest sentences of up to `MAP_TOKENS` tokens; if there are too few, the shortest of the others
    too."""
    distinct = list(dict.fromkeys(sources))
    encodings = tokenizer.encode_batch(distinct, add_special_tokens=False)
    lengths = {text: len(encoding.ids) + 1 for text, encoding in zip(distinct, encodings, strict=True)}
    return sorted(distinct, key=lambda text: (lengths[text] > MAP_TOKENS, abs(lengths[text] - MAP_TOKENS)))[:most]
