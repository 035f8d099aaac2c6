"""Masking: which tokens a masked model has to predict, and what it sees in their place.

Pure functions. Every random number is a hash of (seed, epoch, row, place in the row, purpose), so that the mask of a
row depends neither on the other rows of its batch nor on earlier batches: another epoch gives another mask (RoBERTa's
dynamic masking, Liu et al. 2019), and the same epoch gives the same mask again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.tokenization import masked_specials, special_ids

UNITS = ("tokens", "words", "ngrams")
IGNORED = -100
"""The target where nothing is to be predicted."""

_NGRAM_LENGTHS = np.cumsum([6 / 11, 3 / 11])
"""A length of 1, 2 or 3 words with p(n) proportional to 1/n (Lan et al. 2020): u < 6/11, u < 9/11, the rest."""
_PICK, _REPLACE, _CHOOSE, _LENGTH = range(4)  # what a random number is for


@dataclass(frozen=True)
class MaskVocabulary:
    """What masking needs to know about a vocabulary: an entry for each id.

    Only ordinary ids (not special) are picked, and only they replace others. A token that continues a word belongs to
    the word of the token before it.
    """

    mask_id: int
    is_ordinary: Bool[np.ndarray, " vocab"]
    continues_word: Bool[np.ndarray, " vocab"]

    def __post_init__(self) -> None:
        if not self.is_ordinary.any():
            raise InputError(f"none of the {len(self.is_ordinary)} ids of the vocabulary is a piece of text")

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "MaskVocabulary":
        """A word begins where WordPiece writes no "##", and where byte-level BPE or SentencePiece writes a space.

        For other tokenizers each token is a word.
        """
        vocabulary = tokenizer.get_vocab()
        size = 1 + max(vocabulary.values(), default=-1)
        is_ordinary, continues = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        is_wordpiece = isinstance(tokenizer.model, models.WordPiece)
        spaces = tuple(mark for mark in "ĠĊ▁" if mark in vocabulary) if not is_wordpiece else ()
        for token, index in vocabulary.items():
            is_ordinary[index] = True
            continues[index] = token.startswith("##") if is_wordpiece else bool(spaces) and not token.startswith(spaces)
        is_ordinary[list(special_ids(tokenizer))] = False
        return cls(masked_specials(tokenizer).mask_id, is_ordinary, continues & is_ordinary)


class Masked(NamedTuple):
    """`ids` (B, T) as the model sees them, and `targets` (B, T): the id that was picked, -100 elsewhere."""

    ids: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]


def mask_tokens(
    ids: Int[Tensor, "batch time"],
    rows: Sequence[int],
    vocabulary: MaskVocabulary,
    *,
    seed: int,
    epoch: int,
    units: str = "tokens",
    rate: float = 0.15,
    masked: float = 0.8,
    replaced: float = 0.1,
) -> Masked:
    """Pick units of text with probability `rate`; of the tokens picked, 80% become [MASK], 10% a random token, and
    10% stay (Devlin et al. 2019, section 3.1).

    A unit is a token ("tokens"), a whole word ("words"), or 1 to 3 whole words ("ngrams", see `ngram_units`). Special
    tokens, so padding too, are never picked. `rows` (B) numbers the rows among all data. Where chance picks nothing in
    a row that has ordinary tokens, the unit that was nearest to being picked is.
    """
    if units not in UNITS:
        raise InputError(f"units={units!r} must be one of {', '.join(UNITS)}")
    if not (0 < rate <= 1 and masked >= 0 and replaced >= 0 and masked + replaced <= 1):
        raise InputError(f"{rate=}, {masked=}, {replaced=}: a rate is above 0, and shares add up to 1 at most")
    seen = ids.numpy()
    ordinary = vocabulary.is_ordinary[seen]
    keys = row_keys(seed, epoch, rows)
    places = np.broadcast_to(np.arange(seen.shape[1]), seen.shape)
    unit = places
    if units != "tokens":
        unit = word_units(seen, vocabulary)
    if units == "ngrams":
        unit = ngram_units(unit, ordinary, keys)

    u = np.where(ordinary, _uniform(keys, unit, _PICK), 2.0)
    nearest = u.min(axis=1, keepdims=True, initial=2.0)
    picked = ordinary & (u <= np.maximum(nearest, np.nextafter(rate, 0)))
    fate = _uniform(keys, places, _REPLACE)
    becomes_mask = picked & (fate < masked)
    becomes_random = picked & (fate >= masked) & (fate < masked + replaced)
    replacements = np.flatnonzero(vocabulary.is_ordinary)
    which, where = becomes_random.nonzero()
    drawn = _uniform(keys[which], where[:, None], _CHOOSE)[:, 0]

    output = seen.copy()
    output[becomes_mask] = vocabulary.mask_id
    output[which, where] = replacements[(drawn * len(replacements)).astype(np.int64)]
    return Masked(torch.from_numpy(output), torch.from_numpy(np.where(picked, seen, IGNORED)))


def word_units(ids: Int[np.ndarray, "batch time"], vocabulary: MaskVocabulary) -> Int[np.ndarray, "batch time"]:
    """The number of each token's word in its row. A special token is one, and the token after it begins one."""
    ordinary = vocabulary.is_ordinary[ids]
    joined = vocabulary.continues_word[ids]
    joined[:, 1:] &= ordinary[:, :-1]
    joined[:, :1] = False
    return np.cumsum(~joined, axis=1) - 1


def ngram_units(
    words: Int[np.ndarray, "batch time"], ordinary: Bool[np.ndarray, "batch time"], keys: NDArray[np.uint64]
) -> Int[np.ndarray, "batch time"]:
    """A number for each token's n-gram: rows are cut, left to right, into 1, 2 or 3 words with p(n) ∝ 1/n.

    Each word is in one n-gram, so that picking n-grams with some probability picks each word with that probability,
    and lengths as they were drawn. A special token counts as no word, and an n-gram does not reach over one.
    """
    if not words.size:
        return words
    begins = ordinary & (np.diff(words, axis=1, prepend=-1) > 0)
    word = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
    most = int(word.max()) + 1
    length = 1 + np.searchsorted(_NGRAM_LENGTHS, _uniform(keys, np.arange(most)[None], _LENGTH), side="right")
    ends = np.cumsum(length, axis=1)
    first = np.zeros((len(words), most + 1), dtype=np.int64)
    np.put_along_axis(first, np.minimum(ends, most), 1, axis=1)  # the word after each n-gram begins the next
    ngram = np.take_along_axis(np.cumsum(first, axis=1), word, axis=1)
    section = np.cumsum(~ordinary, axis=1)
    return ngram + (section << 32)


def row_keys(seed: int, epoch: int, rows: Sequence[int]) -> NDArray[np.uint64]:
    """A key (B, 1) for the random numbers of each row."""
    key = np.full(len(rows), seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    for part in (epoch, np.asarray(rows, dtype=np.int64)):
        key = _mix(key) + _mix(np.broadcast_to(np.asarray(part, dtype=np.int64), key.shape).astype(np.uint64))
    return _mix(key)[:, None]


def _uniform(keys: NDArray[np.uint64], counters: NDArray[Any], purpose: int) -> NDArray[Any]:
    """Numbers in [0, 1), each a function of its row's key, its counter and its purpose."""
    steps = (counters.astype(np.uint64) << np.uint64(2)) + np.uint64(purpose + 1)
    return (_mix(keys + steps * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the input changes half of the output's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
