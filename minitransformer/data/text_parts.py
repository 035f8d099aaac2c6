"""Texts in sentences, a part at a time, so that neither they nor what is made of them need be in memory whole."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minitransformer.data.running_text import Texts
from minitransformer.data.sentences import SENTENCE_ENDS, sentences

PART = 8_000_000
"""Characters of a part, at least, but for the last. Texts of fewer bytes than that are a single part."""
SLACK = 1_000_000
"""A text that ends within so many characters more is not cut."""
LONGEST = 1_000_000
"""Where no sentence ends in so many characters more, a part ends all the same."""
_WORD_ENDS = re.compile(r"(?<=\S)(?=\s)")

InSentences = list[list[str]]
"""Texts, each as the sentences it consists of."""


@dataclass(frozen=True)
class SentenceTexts:
    """The texts of a split, and what stands between two of their sentences."""

    texts: Texts
    ends: re.Pattern[str] = SENTENCE_ENDS

    def parts(self) -> Iterator[InSentences]:
        """All texts in order, in parts of at least `PART` characters but for the last. Of a text that is in several
        parts, because it goes on for more than `SLACK` beyond one, each has whole sentences: those of all parts are
        `sentences` of the whole text.

        Where no sentence ends within `LONGEST` characters after those, one is divided, at the end of a word if there is
        one. Parts in which nothing stands are left out.
        """
        part, room = InSentences(), PART
        for text in self.texts:
            waiting = ""
            for block in text:
                waiting += block
                while (end := _part_end(waiting, room, self.ends)) is not None:
                    part.append(sentences(waiting[:end], self.ends))
                    if any(part):
                        yield part
                    part, room, waiting = [], PART, waiting[end:]
            part.append(sentences(waiting, self.ends))
            room -= len(waiting)
            if room <= 0:
                if any(part):
                    yield part
                part, room = [], PART
        if any(part):
            yield part


def _part_end(text: str, room: int, ends: re.Pattern[str]) -> int | None:
    """The first end of a sentence after `room` characters of a text, of which more may follow; None until it is sure.

    It is once something stands behind it: white space that goes on might, as a blank line, be another end.
    """
    if len(text) <= room + SLACK:
        return None
    limit = room + LONGEST
    found = ends.search(text, room, limit)
    if found is not None and text[found.end() : limit].strip():
        return found.end()
    if len(text) < limit:
        return None
    word_end = _WORD_ENDS.search(text, room, limit)
    return limit if word_end is None else word_end.start()
