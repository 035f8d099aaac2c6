"""The text that a masked model learns from, as sentences and then as rows of tokens."""

from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from minitransformer.data import load
from minitransformer.data.sentences import (
    Document,
    Rows,
    encode_documents,
    full_rows,
    next_sentence_rows,
    sentence_order_rows,
    sentences,
    single_rows,
)
from minitransformer.errors import InputError
from minitransformer.tokenization import masked_specials
from train.pretraining import read_corpus

Texts = list[list[str]]
"""Texts, each as the sentences it consists of."""

SHORT = 0.9
"""A corpus is one of short texts if so large a share of them fits into a row each."""


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


def read_corpora(names: str) -> dict[str, dict[str, Texts]]:
    """The splits of each corpus, names divided by commas. `bible` is two, its English versions, a text of verses each:
    as one corpus, the only other text to take a sentence from would be the other version."""
    corpora: dict[str, dict[str, Texts]] = {}
    for name in corpus_names(names):
        if not name or name in corpora or f"{name} 3" in corpora:
            raise InputError(
                f"--data {names} has {'an empty name' if not name else f'{name} twice'} between its commas"
            )
        if name == "bible":
            verses = load(name, source="3", target="k")
            for version, column in (("3", "source"), ("k", "target")):
                corpora[f"bible {version}"] = {split: [list(table[column])] for split, table in verses.items()}
        else:
            corpora[name] = {
                split: [sentences(text) for text in table["text"]] for split, table in read_corpus(name).items()
            }
    return corpora


def corpus_rows(
    splits: Mapping[str, Texts], tokenizer: Tokenizer, context: int, task: str | None, *, seed: int, held_out_seed: int
) -> dict[str, Rows]:
    """The rows of every split, of at most `context` tokens.

    Where at least 90% of the training texts fit into a row, as sentences and reviews do, each text is a row. Other
    texts are cut into pairs for the sentence `task`, or, with none, into windows of whole sentences.
    """
    longest = max(1, context // 2)
    documents = {split: encode_documents(texts, tokenizer, longest=longest) for split, texts in splits.items()}
    fit = [sum(map(len, document)) <= context - 2 for document in documents["train"]]
    short = sum(fit) >= SHORT * len(fit)
    return {
        split: _rows(some, tokenizer, context, task, short=short, seed=seed if split == "train" else held_out_seed)
        for split, some in documents.items()
    }


def _rows(
    documents: list[Document], tokenizer: Tokenizer, context: int, task: str | None, *, short: bool, seed: int
) -> Rows:
    specials = masked_specials(tokenizer)
    if short:
        return single_rows(documents, context, specials)
    if task == "nsp" and len(documents) == 1:  # it has no other to take a sentence from
        middle = (len(documents[0]) + 1) // 2
        documents = [part for part in (documents[0][:middle], documents[0][middle:]) if part]
    if task == "nsp" and len(documents) > 1:
        return next_sentence_rows(documents, context, specials, seed=seed)
    if task == "sop":
        return sentence_order_rows(documents, context, specials, seed=seed)
    return full_rows(documents, context, specials)
