"""How good translations are: sacreBLEU and chrF, overall and where sentences are long or words are rare."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from tokenizers import Regex, pre_tokenizers

from minitransformer.errors import InputError

# The last number of each group; "never" and the group above all of these come of themselves.
LENGTHS = (5, 10, 15, 20)
TIMES_SEEN = (2, 10, 100)

# Letters with their marks and numbers, and what hyphens and apostrophes join.
_WORD = pre_tokenizers.Split(Regex(r"[\p{L}\p{M}\p{N}]+(?:[-'’][\p{L}\p{M}\p{N}]+)*"), behavior="removed", invert=True)


@dataclass(frozen=True)
class TranslationScores:
    """From 0 to 100 each. A score can be compared with another of the same signature only."""

    bleu: float
    bleu_lowercase: float
    chrf: float
    signatures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def translation_scores(outputs: Sequence[str], references: Sequence[str]) -> TranslationScores:
    """BLEU (Papineni et al. 2002; tokens "13a"), cased and lower-cased, and chrF (Popović 2015) as sacreBLEU has them
    (Post 2018): of the whole corpus, against one reference each. Both sides are plain text, not tokens.

    An empty output counts as what it is, no word of its reference found. Raises `InputError` for no sentences and for
    numbers that differ.
    """
    _check(outputs=outputs, references=references)
    # sacreBLEU warns of text that looks tokenized; once is enough.
    metrics = {"bleu": BLEU(), "bleu_lowercase": BLEU(lowercase=True, force=True), "chrf": CHRF()}
    scores = {name: metric.corpus_score(outputs, [references]).score for name, metric in metrics.items()}
    return TranslationScores(**scores, signatures={name: str(each.get_signature()) for name, each in metrics.items()})


def bleu(outputs: Sequence[str], references: Sequence[str]) -> float:
    """`translation_scores(...).bleu` alone, in a quarter of the time: for validation while training."""
    _check(outputs=outputs, references=references)
    return BLEU(force=True).corpus_score(outputs, [references]).score


def by_length(sources: Sequence[str], outputs: Sequence[str], references: Sequence[str]) -> list[dict[str, Any]]:
    """BLEU for groups of sentences whose sources have 1-5, 6-10, 11-15, 16-20 and 21+ words, as
    {"words": "1-5", "count": sentences, "bleu": score}. A group without a sentence is left out."""
    _check(sources=sources, outputs=outputs, references=references)
    return _by_size("words", [len(words(source)) for source in sources], LENGTHS, outputs, references)


def by_rarest_word(
    sources: Sequence[str], outputs: Sequence[str], references: Sequence[str], train_sources: Iterable[str]
) -> list[dict[str, Any]]:
    """BLEU for groups of sentences by how often the training sources have the rarest word of the source, cased or not:
    never, 1-2, 3-10, 11-100 or 101+ times, as {"seen": "1-2", "count": sentences, "bleu": score}. A group without a
    sentence is left out."""
    _check(sources=sources, outputs=outputs, references=references)
    asked = [words(source.lower()) for source in sources]
    # No other words are counted: those of a large corpus are too many to keep.
    known = set(chain.from_iterable(asked))
    seen = Counter(word for text in train_sources for word in words(text.lower()) if word in known)
    rarest = [min(seen[word] for word in found) for found in asked]
    return _by_size("seen", rarest, TIMES_SEEN, outputs, references)


def words(text: str) -> list[str]:
    """The words of a text without its punctuation, or where it is nothing else, its pieces between spaces.

    Writing without spaces, such as Chinese, has a "word" from one sign of punctuation to the next. Raises `InputError`
    for a text without a character.
    """
    found = [word for word, _ in _WORD.pre_tokenize_str(text)] or text.split()
    if not found:
        raise InputError(f"a source is {text!r}, which has no words: leave out pairs with an empty side")
    return found


def _by_size(
    name: str, sizes: Sequence[int], ends: Sequence[int], outputs: Sequence[str], references: Sequence[str]
) -> list[dict[str, Any]]:
    """BLEU of the sentences whose size is 0, up to each of `ends`, and larger than all of them."""
    starts = (0, 1, *(end + 1 for end in ends))
    labels = ["never", *(f"{start}-{end}" for start, end in zip(starts[1:], ends, strict=False)), f"{starts[-1]}+"]
    groups: dict[int, list[int]] = defaultdict(list)
    for row, size in enumerate(sizes):
        groups[max(place for place, start in enumerate(starts) if start <= size)].append(row)
    return [
        {
            name: labels[place],
            "count": len(rows),
            "bleu": bleu([outputs[i] for i in rows], [references[i] for i in rows]),
        }
        for place, rows in sorted(groups.items())
    ]


def _check(**columns: Sequence[str]) -> None:
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(f"scores need one or more sentences, and of each kind as many, but their numbers are {counts}")
