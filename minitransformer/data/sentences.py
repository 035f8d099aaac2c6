"""Texts in sentences, a part of them at a time, and their ids."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from tokenizers import Tokenizer

from minitransformer.data.running_text import WORD_ENDS

_STOPS = ".!?…।॥؟۔።"  # of Hindi, Arabic, Urdu and Amharic, too
SENTENCE_ENDS = re.compile(rf"(?<=[{_STOPS}])\s+|(?<=[{_STOPS}][\"'”’»)\]])\s+|(?<=[。！？])\s*|\n\s*\n")
LINE_ENDS = re.compile("\n")
PART = 8_000_000
"""The least characters of a part, except of the last."""
SLACK = 1_000_000
"""A text that ends within so many more characters is not divided."""
LONGEST = 1_000_000
"""If no sentence ends within so many more characters, a part ends inside one."""
_ENCODED = 1000  # sentences encoded together: an encoding takes a hundred times the memory of its ids


class Document(NamedTuple):
    """Consecutive sentences of a text, each as the ids of its tokens, and the number of that text."""

    sentences: list[list[int]]
    text: int


def sentences(text: str, ends: re.Pattern[str] = SENTENCE_ENDS) -> list[str]:
    """The text cut after a stop such as ".", "?" or "।" (and a closing quote) before white space, and at blank lines.

    A rule without a dictionary: "Mr. Smith" is cut in two. Chinese and Japanese stops need no white space. Other `ends`
    are another rule.
    """
    return [part for piece in ends.split(text) if (part := piece.strip())]


def parts_in_sentences(
    texts: Iterable[Iterable[str]], ends: re.Pattern[str] = SENTENCE_ENDS
) -> Iterator[list[list[str]]]:
    """Texts, each given as blocks, in parts of at least `PART` characters; a part holds texts as lists of sentences.

    A text that goes on for more than `SLACK` characters beyond a part is divided where a sentence ends, so that the
    sentences of all parts are those of the whole text. If no sentence ends within `LONGEST` characters, one is divided
    where a word ends, or anywhere. Parts without a sentence are left out.
    """
    yield from filter(any, _parts(texts, ends))


def _parts(texts: Iterable[Iterable[str]], ends: re.Pattern[str]) -> Iterator[list[list[str]]]:
    part, room = list[list[str]](), PART
    for text in texts:
        waiting = ""
        for block in text:
            waiting += block
            while (end := _part_end(waiting, room, ends)) is not None:
                yield [*part, sentences(waiting[:end], ends)]
                part, room, waiting = [], PART, waiting[end:]
        part.append(sentences(waiting, ends))
        room -= len(waiting)
        if room <= 0:
            yield part
            part, room = [], PART
    yield part


def _part_end(text: str, room: int, ends: re.Pattern[str]) -> int | None:
    """Where a part ends in a text that may go on: the first sentence end after `room` characters, or None if the text
    is too short to tell. White space at the end of the text does not tell: it might go on and be a blank line."""
    if len(text) <= room + SLACK:
        return None
    limit = room + LONGEST
    found = ends.search(text, room, limit)
    if found is not None and text[found.end() : limit].strip():
        return found.end()
    if len(text) < limit:
        return None
    word_end = WORD_ENDS.search(text, room, limit)
    return limit if word_end is None else word_end.start()


def encode_documents(
    texts: Sequence[Sequence[str]], tokenizer: Tokenizer, *, longest: int, most: int = 64
) -> list[Document]:
    """The documents of texts that are given as sentences. A text of more than `most` sentences becomes several
    documents, and a sentence of more than `longest` tokens several sentences.

    The space between two sentences stays, before the second: byte-level tokens mark words by it.
    """
    spaced = (part if place == 0 else f" {part}" for text in texts for place, part in enumerate(text))
    batches = iter(lambda: list(islice(spaced, _ENCODED)), [])
    encodings = chain.from_iterable(tokenizer.encode_batch_fast(b, add_special_tokens=False) for b in batches)
    documents: list[Document] = []
    for number, text in enumerate(texts):
        found = [encoding.ids for encoding in islice(encodings, len(text))]
        cut = [ids[start : start + longest] for ids in found for start in range(0, len(ids), longest)]
        documents += [Document(cut[start : start + most], number) for start in range(0, len(cut), most)]
    return documents
