"""Rows of tokens for a masked model, of corpora of any size: those of large ones lie in files of the cache."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer

from minitransformer.data.row_file import row_file
from minitransformer.data.sentences import (
    Document,
    Rows,
    encode_documents,
    full_rows,
    join_rows,
    next_sentence_rows,
    sentence_order_rows,
    single_rows,
)
from minitransformer.data.text_parts import InSentences, SentenceTexts
from minitransformer.data.token_cache import SMALL, vocabulary_size
from minitransformer.tokenization import masked_specials

SHORT = 0.9
"""A corpus is one of short texts if so large a share of them fits into a row each."""
_FORMAT = "1"
"""Another number wherever other rows are made of the same text: what is in the cache is then made again."""


class CorporaRows(NamedTuple):
    """The rows to train on, corpus after corpus, and those of what is held out: by split, then by corpus."""

    train: Rows
    held_out: dict[str, dict[str, Rows]]


def corpora_rows(
    corpora: Mapping[str, Mapping[str, SentenceTexts]],
    tokenizer: Tokenizer,
    context: int,
    task: str | None,
    *,
    seed: int,
    held_out_seed: int,
) -> CorporaRows:
    """The rows of every split, of at most `context` tokens. Those of `SMALL` bytes of text or more are in a file that
    is mapped into memory, and is made where it is not there."""
    made = {name: CorpusRows(splits, tokenizer, context, task) for name, splits in corpora.items()}
    return CorporaRows(
        _rows(list(made.values()), "train", seed),
        {
            split: {name: _rows([rows], split, held_out_seed) for name, rows in made.items() if split in rows.splits}
            for split in ("validation", "test")
        },
    )


class CorpusRows:
    """How the texts of one corpus become rows, a part of them at a time.

    Where at least 90% of the training texts fit into a row, as sentences and reviews do, each text is a row. Other
    texts are cut into pairs for the sentence `task`, or, with none, into windows of whole sentences. Which it is, the
    first part of the training text decides.
    """

    def __init__(self, splits: Mapping[str, SentenceTexts], tokenizer: Tokenizer, context: int, task: str | None):
        self.splits, self.tokenizer, self.context, self.task = splits, tokenizer, context, task
        self.known_words: dict[str, list[int]] = {}

    def parts(self, split: str, seed: int) -> Iterable[Rows]:
        """The rows of one part of the text after another.

        Each part is as a corpus of its own: the wrong second sentence of a pair comes from the same part, as BERT's own
        `create_pretraining_data.py` (Devlin et al. 2019) took it from the documents of one call, large corpora being
        handed to it in several.
        """
        for number, part in enumerate(self.splits[split].parts()):
            yield self._rows(self._documents(part), seed + number * 1_000_003)

    def key(self, split: str) -> tuple[str, ...]:
        """All that the rows follow from, but for the seed."""
        texts = [(part.texts.content.sha256, part.ends.pattern) for part in (self.splits[split], self.splits["train"])]
        return (*chain.from_iterable(texts), self.tokenizer.to_str(), str(self.context), str(self.task))

    @cached_property
    def is_short(self) -> bool:
        documents = self._documents(next(iter(self.splits["train"].parts()), []))
        fit = [sum(map(len, document)) <= self.context - 2 for document in documents]
        return sum(fit) >= SHORT * len(fit)

    def _documents(self, part: InSentences) -> list[Document]:
        longest = max(1, self.context // 2)
        return encode_documents(part, self.tokenizer, longest=longest, known=self.known_words)

    def _rows(self, documents: list[Document], seed: int) -> Rows:
        specials = masked_specials(self.tokenizer)
        if self.is_short:
            return single_rows(documents, self.context, specials)
        if self.task == "nsp" and len(documents) == 1:  # it has no other to take a sentence from
            middle = (len(documents[0]) + 1) // 2
            documents = [part for part in (documents[0][:middle], documents[0][middle:]) if part]
        if self.task == "nsp" and len(documents) > 1:
            return next_sentence_rows(documents, self.context, specials, seed=seed)
        if self.task == "sop":
            return sentence_order_rows(documents, self.context, specials, seed=seed)
        return full_rows(documents, self.context, specials)


def _rows(corpora: Sequence[CorpusRows], split: str, seed: int) -> Rows:
    """Those of all corpora, one after another: large ones are never together in memory, but in one file."""

    def parts() -> Iterable[Rows]:
        return chain.from_iterable(corpus.parts(split, seed) for corpus in corpora)

    if sum(corpus.splits[split].texts.content.num_bytes for corpus in corpora) < SMALL:
        return join_rows(parts())

    def of_unchanged_texts() -> Iterator[Rows]:
        yield from parts()
        for corpus in corpora:
            for part in (split, "train"):  # as in the key
                corpus.splits[part].texts.require_unchanged()

    name = "\0".join((_FORMAT, str(seed), *chain.from_iterable(corpus.key(split) for corpus in corpora)))
    tokenizer = corpora[0].tokenizer
    return mapped_rows(name, torch.int16 if vocabulary_size(tokenizer) < 1 << 15 else torch.int32, of_unchanged_texts)


def mapped_rows(name: str, dtype: torch.dtype, parts: Callable[[], Iterable[Rows]]) -> Rows:
    """The rows of all parts, whose ids lie in the file of this name: see `row_file`."""
    ids, columns = row_file(name, dtype, 3, lambda: map(_arrays, parts()))
    lengths, second_starts, labels = columns.unbind(1)
    # Copies, so that of the columns nothing stays in memory.
    return Rows(ids, F.pad(lengths.cumsum(0), (1, 0)), second_starts.clone(), labels.to(torch.int8))


def _arrays(rows: Rows) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    columns = torch.stack([rows.lengths, rows.second_starts, rows.labels], dim=1)
    return rows.ids.numpy(), columns.int().numpy()
