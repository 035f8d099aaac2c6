"""The text that a masked model learns from, in sentences."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from minitransformer.data import load
from minitransformer.data.running_text import Texts
from minitransformer.data.sentences import LINE_ENDS
from minitransformer.data.text_parts import SentenceTexts
from minitransformer.errors import InputError
from train.engine.tokenizer_text import TOKENIZER_BYTES, warn_of_text_left_out
from train.pretrain.running_text import read_texts


def corpus_names(data: str) -> list[str]:
    """Names divided by commas. What is there as a path, commas and all, is one name."""
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
    except OSError:  # many names are too long for one
        return False


def read_corpora(names: str) -> dict[str, dict[str, SentenceTexts]]:
    """The splits of each corpus, names divided by commas. `bible` is two, its English versions, a text of verses each:
    as one corpus, the only other text to take a sentence from would be the other version."""
    corpora: dict[str, dict[str, SentenceTexts]] = {}
    for name in corpus_names(names):
        if not name or name in corpora or f"{name} 3" in corpora:
            raise InputError(
                f"--data {names} has {'an empty name' if not name else f'{name} twice'} between its commas"
            )
        if name == "bible":
            verses = load(name, source="3", target="k")
            for version, column in (("3", "source"), ("k", "target")):
                corpora[f"bible {version}"] = {
                    split: SentenceTexts(_lines(table[column]), LINE_ENDS) for split, table in verses.items()
                }
        else:
            corpora[name] = {split: SentenceTexts(texts) for split, texts in read_texts(name).items()}
    return corpora


def _lines(verses: Iterable[str]) -> Texts:
    """One text with a line for each."""
    text = "\n".join(verses)
    return Texts(lambda: iter([(text,)]))


def sentences_for_tokenizers(corpora: Mapping[str, Mapping[str, SentenceTexts]]) -> Iterator[str]:
    """The training sentences of all corpora. Of more than `TOKENIZER_BYTES`, which it says, the first ones of each
    corpus, in the same share of every one."""
    sizes = [splits["train"].texts.content.num_bytes for splits in corpora.values()]
    warn_of_text_left_out(sum(sizes))
    for splits, size in zip(corpora.values(), sizes, strict=True):
        left = size if sum(sizes) <= TOKENIZER_BYTES else size * TOKENIZER_BYTES // sum(sizes)
        for sentence in (sentence for part in splits["train"].parts() for text in part for sentence in text):
            if left <= 0:
                break
            left -= len(sentence.encode())
            yield sentence
