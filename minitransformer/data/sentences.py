"""Rows for masked models: texts cut into sentences, and sentences put into rows of a limited length.

A row is `[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]` with a label that says whether b follows a. All here are functions
of their arguments and a seed.
"""

import random
import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.word_ids import encoded
from minitransformer.errors import InputError
from minitransformer.tokenization import MaskedSpecials

Document = list[list[int]]
"""The sentences of a text that belong together, in order, each as the ids of its tokens."""


class PartOfText(list[list[int]]):
    """A `Document` that knows which text it is of: a long one is several documents, one after another."""

    def __init__(self, sentences: Iterable[list[int]], text: int):
        super().__init__(sentences)
        self.text = text


SENTENCE_ENDS = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)\]])\s+|(?<=[。！？])\s*|\n\s*\n")
LINE_ENDS = re.compile("\n")
NEXT, NOT_NEXT = IN_ORDER, SWAPPED = 0, 1
NO_LABEL = -1


class Rows(NamedTuple):
    """Rows of tokens one after another: row i is `ids[offsets[i] : offsets[i + 1]]`. Its second segment begins at
    `second_starts[i]`, counted from its start (its end if it has only one); `labels[i]` is -1 where it is no pair."""

    ids: Int[Tensor, " tokens"]
    offsets: Int[Tensor, " rows_and_one"]
    second_starts: Int[Tensor, " rows"]
    labels: Int[Tensor, " rows"]

    @property
    def lengths(self) -> Int[Tensor, " rows"]:
        return self.offsets.diff()


_NONE = torch.empty(0, dtype=torch.int64)
NO_ROWS = Rows(_NONE.int(), torch.zeros(1, dtype=torch.int64), _NONE, _NONE)


def join_rows(parts: Iterable[Rows]) -> Rows:
    """The rows of all parts, in order; of no parts, none."""
    parts = [NO_ROWS, *parts]
    lengths = torch.cat([torch.zeros(1, dtype=torch.int64), *(part.lengths for part in parts)])
    return Rows(
        torch.cat([part.ids for part in parts]),
        lengths.cumsum(0),
        torch.cat([part.second_starts for part in parts]),
        torch.cat([part.labels for part in parts]),
    )


def sentences(text: str, ends: re.Pattern[str] = SENTENCE_ENDS) -> list[str]:
    """The text cut after ".", "!", "?" or "…" (and a closing quote) before white space, and at blank lines.

    A rule without a dictionary: "Mr. Smith" is cut in two. Chinese and Japanese stops need no white space. Other `ends`
    are another rule.
    """
    return [part for piece in ends.split(text) if (part := piece.strip())]


def encode_documents(
    texts: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    *,
    longest: int,
    most: int = 64,
    known: dict[str, list[int]] | None = None,
) -> list[Document]:
    """Texts, as the sentences they consist of, in ids; a text of more than `most` sentences becomes several documents,
    and a sentence of more than `longest` tokens several sentences. Each document is a `PartOfText`.

    The space that divided two sentences stays, before the second: byte-level pieces mark words by it. `known` are words
    that were encoded before (see `encoded`).
    """
    documents: list[Document] = []
    spaced = (part if place == 0 else f" {part}" for text in texts for place, part in enumerate(text))
    sentence_ids = encoded(spaced, tokenizer, known)
    for number, text in enumerate(texts):
        of_text = islice(sentence_ids, len(text))
        pieces = [ids[start : start + longest] for ids in of_text for start in range(0, len(ids), longest)]
        documents += [PartOfText(pieces[start : start + most], number) for start in range(0, len(pieces), most)]
    return documents


def single_rows(documents: Sequence[Document], max_length: int, specials: MaskedSpecials) -> Rows:
    """A row `[CLS] document [SEP]` for each document; of one that is too long, a row for each part that fits."""
    _require_room(max_length, 3)
    rows = _Builder(specials)
    for document in documents:
        ids = [token for sentence in document for token in sentence]
        for start in range(0, len(ids), max_length - 2):
            rows.add(ids[start : start + max_length - 2])
    return rows.built()


def full_rows(documents: Sequence[Document], max_length: int, specials: MaskedSpecials) -> Rows:
    """As many whole sentences as fit into `[CLS] ... [SEP]`, over the ends of documents, which a [SEP] marks (RoBERTa's
    full sentences, Liu et al. 2019, section 4.2). A sentence too long for a row is cut."""
    _require_room(max_length, 3)
    rows, window = _Builder(specials), list[int]()
    room = max_length - 2
    for document in documents:
        if window and len(window) + 1 < room:
            window.append(specials.sep_id)
        for sentence in document:
            for start in range(0, len(sentence), room):
                part = sentence[start : start + room]
                if len(window) + len(part) > room:
                    rows.add(window[:-1] if window[-1] == specials.sep_id else window)
                    window = []
                window = window + part
    if window:
        rows.add(window)
    return rows.built()


def next_sentence_rows(documents: Sequence[Document], max_length: int, specials: MaskedSpecials, *, seed: int) -> Rows:
    """Pairs for next-sentence prediction: in half of them b follows a (label 0); in the others b comes from another
    document (label 1), and what would have followed a begins the next pair (Devlin et al. 2019, appendix A.2).

    The other document is one of another text, if there is one: which are of one text, a `PartOfText` tells, and any
    other document is a text of its own. Of a single text it is any but that of a and the one after; where no document
    remains, b follows.

    A sentence left alone at the end of a document becomes a row without a label.
    """
    if len(documents) < 2:
        raise InputError(f"next-sentence pairs need two documents at least, of which there are {len(documents)}")
    _require_room(max_length, 5)
    random_ = random.Random(seed)
    rows, room = _Builder(specials), max_length - 3
    for document, near in zip(documents, _too_near(documents), strict=True):
        place = 0
        while place < len(document):
            chunk = _chunk(document, place, room)
            if len(chunk) == 1:
                rows.add(chunk[0][: max_length - 2])
                place += 1
                continue
            cut = random_.randint(1, len(chunk) - 1)
            if random_.random() < 0.5 or len(near) == len(documents):
                rows.add_pair(chunk[:cut], chunk[cut:], room, NEXT, random_)
                place += len(chunk)
            else:
                other = documents[(near.stop + random_.randrange(len(documents) - len(near))) % len(documents)]
                left = room - sum(map(len, chunk[:cut]))
                second = _chunk(other, random_.randrange(len(other)), max(1, left))
                rows.add_pair(chunk[:cut], second, room, NOT_NEXT, random_)
                place += cut
    return rows.built()


def _too_near(documents: Sequence[Document]) -> list[range]:
    """For each document the places of those that b of a wrong pair must not come from."""
    texts: list[range] = []
    numbers = [part.text if isinstance(part, PartOfText) else -1 - place for place, part in enumerate(documents)]
    for _, run in groupby(numbers):
        count = len(list(run))
        texts += [range(len(texts), len(texts) + count)] * count
    if len(texts[0]) < len(documents):
        return texts
    return [range(place, min(place + 2, len(documents))) for place in range(len(documents))]


def sentence_order_rows(documents: Sequence[Document], max_length: int, specials: MaskedSpecials, *, seed: int) -> Rows:
    """Pairs for sentence-order prediction: two consecutive segments (label 0), in half of the pairs swapped (label 1;
    Lan et al. 2020, section 3.1). A sentence left alone at the end of a document becomes a row without a label."""
    _require_room(max_length, 5)
    random_ = random.Random(seed)
    rows, room = _Builder(specials), max_length - 3
    for document in documents:
        place = 0
        while place < len(document):
            chunk = _chunk(document, place, room)
            place += len(chunk)
            if len(chunk) == 1:
                rows.add(chunk[0][: max_length - 2])
                continue
            cut = random_.randint(1, len(chunk) - 1)
            if random_.random() < 0.5:
                rows.add_pair(chunk[:cut], chunk[cut:], room, IN_ORDER, random_)
            else:
                rows.add_pair(chunk[cut:], chunk[:cut], room, SWAPPED, random_)
    return rows.built()


def _chunk(document: Document, place: int, room: int) -> list[list[int]]:
    """The sentences from `place` on that fill `room`, the last of them perhaps beyond it."""
    length, end = 0, place
    while end < len(document) and length < room:
        length += len(document[end])
        end += 1
    return document[place:end]


def _require_room(max_length: int, least: int) -> None:
    if max_length < least:
        raise InputError(f"max_length={max_length} leaves no room for text beside the special tokens: {least} at least")


class _Builder:
    """Rows in the making."""

    def __init__(self, specials: MaskedSpecials):
        self.cls_id, self.sep_id = specials.cls_id, specials.sep_id
        self.ids, self.offsets = array("i"), array("q", [0])
        self.second_starts, self.labels = array("i"), array("b")

    def add(self, ids: Sequence[int], second: Sequence[int] = (), label: int = NO_LABEL) -> None:
        self.ids.extend([self.cls_id, *ids, self.sep_id, *second, *([self.sep_id] if second else [])])
        self.offsets.append(len(self.ids))
        self.second_starts.append(len(ids) + 2)
        self.labels.append(label)

    def add_pair(
        self, first: list[list[int]], second: list[list[int]], room: int, label: int, random_: random.Random
    ) -> None:
        """Tokens are taken from the longer segment, at either end by chance, until both fit."""
        halves = [[token for sentence in segment for token in sentence] for segment in (first, second)]
        spare = sum(map(len, halves)) - room
        while spare > 0:
            longer = halves[0] if len(halves[0]) > len(halves[1]) else halves[1]
            del longer[0 if random_.random() < 0.5 else -1]
            spare -= 1
        self.add(halves[0], halves[1], label)

    def built(self) -> Rows:
        return Rows(
            # By way of NumPy, which takes an array whole, where torch asks for number after number.
            torch.from_numpy(np.array(self.ids, dtype=np.int32)),
            torch.from_numpy(np.array(self.offsets, dtype=np.int64)),
            torch.from_numpy(np.array(self.second_starts, dtype=np.int64)),
            torch.from_numpy(np.array(self.labels, dtype=np.int64)),
        )
