"""Documents packed into rows of a limited length, for masked models.

A row is `[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]` with a label that says whether b follows a. It is yielded as
`(ids, second_start, label)`: where the second segment begins (after the last id if there is none), and the label or
`NO_LABEL`. All functions depend on their arguments and a seed alone.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from minitransformer.data.sentences import Document
from minitransformer.errors import InputError
from minitransformer.tokenization import MaskedSpecials

NO_LABEL = -1

Row = tuple[list[int], int, int]
_Sentences = list[list[int]]
_Choice = tuple[_Sentences, _Sentences, int]
"""Two segments, and how many sentences of the document they use up."""


def single_rows(documents: Sequence[Document], max_length: int, specials: MaskedSpecials) -> Iterator[Row]:
    """A row `[CLS] document [SEP]` for each document. One that is too long becomes several rows."""
    _require_room(max_length, 3)
    for document in documents:
        ids = _joined(document.sentences)
        for start in range(0, len(ids), max_length - 2):
            yield _row(specials, ids[start : start + max_length - 2])


def full_rows(documents: Sequence[Document], max_length: int, specials: MaskedSpecials) -> Iterator[Row]:
    """As many whole sentences as fit into `[CLS] ... [SEP]`, across documents, with a [SEP] between two documents
    (RoBERTa's full sentences, Liu et al. 2019, section 4.2). A sentence too long for a row is cut."""
    _require_room(max_length, 3)
    window, room = list[int](), max_length - 2
    for document in documents:
        if window and len(window) + 1 < room:
            window.append(specials.sep_id)
        for sentence in document.sentences:
            for start in range(0, len(sentence), room):
                part = sentence[start : start + room]
                if len(window) + len(part) > room:
                    yield _row(specials, window[:-1] if window[-1] == specials.sep_id else window)
                    window = []
                window = window + part
    if window:
        yield _row(specials, window)


def next_sentence_rows(
    documents: Sequence[Document], max_length: int, specials: MaskedSpecials, *, seed: int
) -> Iterator[Row]:
    """Pairs for next-sentence prediction: in half of them b follows a (label 0); in the others b comes from another
    document (label 1), and what would have followed a begins the next pair (Devlin et al. 2019, appendix A.2).

    The other document is from another text. If there is only one text, it is any document but that of a and the one
    after it; if there is none such, b follows a. A sentence left alone at the end of a document becomes a row without a
    label.
    """
    if len(documents) < 2:
        raise InputError(f"next-sentence pairs need at least two documents; there are {len(documents)}")
    chance, too_near = random.Random(seed), _too_near(documents)

    def wrong(number: int, first: _Sentences, second: _Sentences) -> _Choice | None:
        near = too_near[number]
        if len(near) == len(documents):
            return None
        other = documents[(near.stop + chance.randrange(len(documents) - len(near))) % len(documents)]
        left = max(1, max_length - 3 - sum(map(len, first)))
        return first, _chunk(other, chance.randrange(len(other.sentences)), left), len(first)

    yield from _pair_rows(documents, max_length, specials, chance, wrong)


def _too_near(documents: Sequence[Document]) -> list[range]:
    """For each document the places of documents from which b of a wrong pair must not come."""
    same_text: list[range] = []
    for _, group in groupby(document.text for document in documents):
        count = len(list(group))
        same_text += [range(len(same_text), len(same_text) + count)] * count
    if len(same_text[0]) < len(documents):
        return same_text
    return [range(place, min(place + 2, len(documents))) for place in range(len(documents))]


def sentence_order_rows(
    documents: Sequence[Document], max_length: int, specials: MaskedSpecials, *, seed: int
) -> Iterator[Row]:
    """Pairs for sentence-order prediction: two consecutive segments (label 0), in half of the pairs swapped (label 1;
    Lan et al. 2020, section 3.1). A sentence left alone at the end of a document becomes a row without a label."""

    def wrong(number: int, first: _Sentences, second: _Sentences) -> _Choice:
        return second, first, len(first) + len(second)

    yield from _pair_rows(documents, max_length, specials, random.Random(seed), wrong)


def _pair_rows(
    documents: Sequence[Document],
    max_length: int,
    specials: MaskedSpecials,
    chance: random.Random,
    wrong: Callable[[int, _Sentences, _Sentences], _Choice | None],
) -> Iterator[Row]:
    """Consecutive segments with label 0, or, by chance, with label 1 what `wrong` makes of a document's number and its
    two segments. Until both fit, tokens are taken from the longer one, by chance at its start or its end."""
    _require_room(max_length, 5)
    room = max_length - 3
    for number, document in enumerate(documents):
        place = 0
        while place < len(document.sentences):
            chunk = _chunk(document, place, room)
            if len(chunk) == 1:
                yield _row(specials, chunk[0][: max_length - 2])
                place += 1
                continue
            cut = chance.randint(1, len(chunk) - 1)
            chosen = None if chance.random() < 0.5 else wrong(number, chunk[:cut], chunk[cut:])
            first, second, used = chosen or (chunk[:cut], chunk[cut:], len(chunk))
            halves = _joined(first), _joined(second)
            for _ in range(sum(map(len, halves)) - room):
                longer = halves[0] if len(halves[0]) > len(halves[1]) else halves[1]
                del longer[0 if chance.random() < 0.5 else -1]
            yield _row(specials, *halves, 0 if chosen is None else 1)
            place += used


def _chunk(document: Document, place: int, room: int) -> list[list[int]]:
    """The sentences from `place` on that fill `room`, the last of them perhaps beyond it."""
    length, end = 0, place
    while end < len(document.sentences) and length < room:
        length += len(document.sentences[end])
        end += 1
    return document.sentences[place:end]


def _require_room(max_length: int, least: int) -> None:
    if max_length < least:
        raise InputError(f"max_length={max_length} leaves no room for text beside the special tokens: {least} at least")


def _joined(sentences: Sequence[list[int]]) -> list[int]:
    return [token for sentence in sentences for token in sentence]


def _row(specials: MaskedSpecials, first: list[int], second: Sequence[int] = (), label: int = NO_LABEL) -> Row:
    ids = [specials.cls_id, *first, specials.sep_id, *second, *([specials.sep_id] if second else [])]
    return ids, len(first) + 2, label
