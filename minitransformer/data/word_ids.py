"""Many texts as ids, with every word of them encoded once: words come again, and tokenizers take their time."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from tokenizers import Tokenizer

_BATCH = 1000  # texts to encode at once: an encoding takes a hundred times the room of its ids
_MOST, _LONGEST = 200_000, 32  # words to remember, and their characters at most: longer ones hardly come again
_WORDS = re.compile(r"[ \n]?\S+")


def encoded(
    texts: Iterable[str], tokenizer: Tokenizer, known: dict[str, list[int]] | None = None
) -> Iterator[list[int]]:
    """The ids of each text, without special tokens. `known` are words that this tokenizer has encoded; new ones are
    added, and all are forgotten where they have become too many."""
    waiting = iter(texts)
    first = list(islice(waiting, _BATCH))
    # Of few texts, to look into the tokenizer takes longer than the texts do.
    in_words = (known is not None or len(first) == _BATCH) and encodes_words_alone(tokenizer)
    known = {} if known is None else known
    waiting = chain(first, waiting)
    while batch := list(islice(waiting, _BATCH)):
        if not in_words:
            yield from (encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False))
            continue
        cut = [_words(text) for text in batch]
        if len(known) > _MOST:
            known.clear()
        words = set(chain.from_iterable(cut))
        new = list(words.difference(known))
        encodings = tokenizer.encode_batch_fast(new, add_special_tokens=False)
        ids = {word: encoding.ids for word, encoding in zip(new, encodings, strict=True)}
        known.update((word, found) for word, found in ids.items() if len(word) <= _LONGEST)
        ids |= {word: known[word] for word in words.intersection(known)}
        yield from (list(chain.from_iterable(map(ids.__getitem__, words))) for words in cut)


def _words(text: str) -> list[str]:
    """The words of a text. One with more white space than a character between two words, or with such as a tokenizer
    may see as none, remains whole."""
    words = _WORDS.findall(text)
    return words if "".join(words) == text else [text]


def encodes_words_alone(tokenizer: Tokenizer) -> bool:
    """Whether the ids of a text are those of its words, one after another, each with the space or line end before it:
    so it is with BERT's rule of what a word is and with GPT-2's, unless a token was added that is more than a word."""
    parts: dict[str, Any] = json.loads(tokenizer.to_str())
    model, cut, normalizer = parts["model"], parts["pre_tokenizer"] or {}, parts["normalizer"] or {}
    if parts["truncation"] or parts["padding"]:
        return False
    if any(re.search(r"\s", token["content"]) or token["lstrip"] or token["rstrip"] for token in parts["added_tokens"]):
        return False
    if model["type"] == "WordPiece":
        return cut.get("type") == "BertPreTokenizer" and normalizer.get("type") in (None, "BertNormalizer")
    of_bytes = cut.get("type") == "ByteLevel" and cut["use_regex"] and not cut["add_prefix_space"] and not normalizer
    return model["type"] == "BPE" and of_bytes and not model["dropout"]
