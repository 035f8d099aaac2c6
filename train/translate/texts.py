"""What the texts of a comparison look like: sentences or short strings, and how their script tells words apart."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice

import datasets
from tokenizers import Regex, pre_tokenizers

from minitransformer.data.columns import text_batches

SAMPLE = 10_000
"""The most pairs, from all over the data, that are looked at."""
FEW = 100
"""So few whole targets, each of ten pairs or more, are labels."""
FULL_STOPS = tuple(".!?…。！？｡।؟۔။།")
HAN, KANA, OTHERS = (
    "\u3400-\u9fff\U00020000-\U0003ffff",
    "\u3041-\u30ff\uff66-\uff9d",
    "\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff",
)
UNSPACED = HAN + KANA + OTHERS
"""Letters of scripts that write no spaces between words: Chinese; Japanese; Thai, Lao, Tibetan, Burmese and Khmer."""

# A letter with its marks where words have no spaces; elsewhere letters and numbers, which hyphens and apostrophes join.
_LETTERS = rf"[\p{{L}}\p{{M}}\p{{N}}&&[^{UNSPACED}]]+"
_PATTERN = rf"[{UNSPACED}]\p{{M}}*|{_LETTERS}(?:[-'’]{_LETTERS})*"
_WORD = pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True)


def words(text: str) -> list[str]:
    """The words of a text without punctuation; of a text that is all punctuation, its pieces between spaces.

    Where words have no spaces between them, as in Chinese, Japanese and Thai, every letter counts as a word.
    """
    return [word for word, _ in _WORD.pre_tokenize_str(text)] or text.split()


def sample(split: datasets.Dataset) -> list[tuple[str, str]]:
    """Distinct pairs of every part of a split, of long texts the beginning."""
    every = max(1, len(split) // SAMPLE)
    batches = text_batches(split, "source", "target")
    pairs = (pair for rows in batches for pair in zip(rows["source"], rows["target"], strict=True))
    chosen = ((source[:1000], target[:1000]) for source, target in islice(pairs, 0, None, every))
    return list(dict.fromkeys(chosen))


def are_sentences(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether most pairs are of sentences, and targets are not a few that return again and again.

    Codes, dates, numbers in digits and names of one or two words are no sentences. Longer names and numbers in words
    are taken for sentences. No single pair decides, however long it is.
    """
    alike = sum(is_of_sentences(source, target) for source, target in pairs)
    targets = len({target for _, target in pairs})
    return 2 * alike > len(pairs) and (targets > FEW or 10 * targets > len(pairs))


def is_of_sentences(source: str, target: str) -> bool:
    """Whether both sides have words, two at least and together five, or a full stop behind them."""
    counts = [word_count(text) for text in (source, target)]
    stops = all(text.rstrip("\"'“”’»)」』 ").endswith(FULL_STOPS) for text in (source, target))
    return (min(counts) >= 2 and sum(counts) >= 5) or (min(counts) >= 1 and stops)


def word_count(text: str) -> float:
    """Words, without numbers and single letters. Where words have no spaces between them, four letters are about
    three."""
    count = 0.0
    for word in words(text):
        if re.match(f"[{UNSPACED}]", word):
            count += 0.75
        elif len(word) > 1 and not any(map(str.isdigit, word)):
            count += 1
    return count


def bleu_tokenizer(targets: Iterable[str]) -> str:
    """sacreBLEU's tokenizer for the script of most words, where a letter without spaces around it is one, and a name of
    many Latin letters is one too: "13a" tells words by spaces, "zh" makes a token of every Chinese letter, "char" of
    every letter. Its tokenizers of other scripts without spaces need a download."""
    found = [word[0] for target in targets for word in words(target) if any(map(str.isalpha, word))]
    text = "".join(found)
    han, kana, others = (len(re.findall(f"[{letters}]", text)) for letters in (HAN, KANA, OTHERS))
    if 2 * (han + kana + others) <= len(found):
        return "13a"
    return "zh" if han > 10 * kana + others else "char"
