"""The text that a masked model learns from, in sentences."""

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import datasets

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.data.running_text import documents
from minitransformer.data.sentences import LINE_ENDS, SENTENCE_ENDS, parts_in_sentences
from minitransformer.errors import InputError
from train.engine.tokenizer_text import TOKENIZER_BYTES, first


class Corpus(NamedTuple):
    """The splits of a corpus of texts, and what separates two sentences of a text."""

    splits: Mapping[str, datasets.Dataset]
    ends: re.Pattern[str] = SENTENCE_ENDS

    def parts(self, split: str) -> Iterator[list[list[str]]]:
        """The texts of a split as sentences, see `parts_in_sentences`."""
        return parts_in_sentences(documents(self.splits[split]), self.ends)


def corpus_names(data: str) -> list[str]:
    """The names between the commas. A path that exists is one name, even if it has commas."""
    parts, names = data.split(","), []
    while parts:
        joined = (",".join(parts[:count]).strip() for count in range(len(parts), 1, -1))
        name = next(filter(_exists, joined), parts[0].strip())
        names.append(name)
        parts = parts[name.count(",") + 1 :]
    return names


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except OSError:  # several names may be too long for a path
        return False


def read_corpora(names: str, text: str | None = None) -> dict[str, Corpus]:
    """The corpora that are named, with commas between them; `text` is the column of each that holds the texts.

    `bible` gives two corpora, its English versions, each a single text of verses: in one corpus, the only other text to
    take a sentence from would be the other version.
    """
    corpora: dict[str, Corpus] = {}
    for name in corpus_names(names):
        if not name or name in corpora or f"{name} 3" in corpora:
            raise InputError(
                f"--data {names} has {'an empty name' if not name else f'{name} twice'} between its commas"
            )
        if name == "bible" and text is None:
            verses = load(name, source="3", target="k")
            for version, column in (("3", "source"), ("k", "target")):
                splits = {split: {"text": ["\n".join(table[column])]} for split, table in verses.items()}
                made = {split: datasets.Dataset.from_dict(table) for split, table in splits.items()}
                corpora[f"bible {version}"] = Corpus(made, LINE_ENDS)
        else:
            corpora[name] = Corpus(load(name, kind="text", text=text))
    return corpora


def validation_sentences(corpora: Mapping[str, Corpus]) -> Iterator[str]:
    """The first sentences of each validation text of the corpora, of one corpus after another in turn."""
    texts = [(text for part in corpus.parts("validation") for text in part) for corpus in corpora.values()]
    for turn in zip_longest(*texts, fillvalue=()):
        for text in turn:
            yield from text[:10]


def sentences_for_tokenizers(corpora: Mapping[str, Corpus], num_bytes: int = TOKENIZER_BYTES) -> Iterator[str]:
    """The training sentences of all corpora. If they are more than `num_bytes`, the first ones of each corpus,
    the same share of each, with warnings."""
    sizes = [sum(len(text.encode()) for text in texts(corpus.splits["train"], "text")) for corpus in corpora.values()]
    for (name, corpus), size in zip(corpora.items(), sizes, strict=True):
        sentences = (sentence for part in corpus.parts("train") for text in part for sentence in text)
        yield from first(sentences, size * num_bytes // sum(sizes), of=name)
