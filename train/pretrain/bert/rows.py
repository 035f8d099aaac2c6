"""Rows of tokens for a masked model, from corpora of any size."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain

from tokenizers import Tokenizer

from minitransformer.data.packing import Row, full_rows, next_sentence_rows, sentence_order_rows, single_rows
from minitransformer.data.sentences import Document, encode_documents
from minitransformer.data.token_rows import TokenRows, token_rows
from minitransformer.tokenization import masked_specials, unknown_id
from train.pretrain.bert.corpora import Corpus

HELD_OUT_SEED = 20_181_011
"""The seed of the pairs and masks of held-out text: every run over the same rows has the same ones."""
SHORT = 0.9
"""The texts of a corpus are short if at least so large a share of them fits into a row each."""


def corpora_rows(
    corpora: Mapping[str, Corpus], tokenizer: Tokenizer, context: int, task: str | None, seed: int
) -> tuple[TokenRows, dict[str, dict[str, TokenRows]]]:
    """The rows to train on, corpus after corpus, and the held-out rows by split and corpus.

    A row has `context` tokens at most, and the columns `second_start`, `label` and `unknown`, the number of tokens that
    are [UNK]. `seed` draws the pairs of the training text.
    """
    unknown = unknown_id(tokenizer)
    sources = {name: CorpusRows(corpus, tokenizer, context, task) for name, corpus in corpora.items()}

    def rows(chosen: Sequence[CorpusRows], split: str, seed: int) -> TokenRows:
        follows_from = chain.from_iterable(source.key(split) for source in chosen)
        return token_rows(
            lambda: ((*row, row[0].count(unknown)) for source in chosen for row in source.rows(split, seed)),
            columns=["second_start", "label", "unknown"],
            tokenizers=[tokenizer],
            key=["masked", str(context), str(task), str(seed), *follows_from],
        )

    train = rows(list(sources.values()), "train", seed)
    return train, {
        split: {
            name: rows([source], split, HELD_OUT_SEED)
            for name, source in sources.items()
            if split in source.corpus.splits
        }
        for split in ("validation", "test")
    }


class CorpusRows:
    """How the texts of one corpus become rows, a part of them at a time.

    If at least 90% of the training texts fit into a row, as sentences and reviews do, each text is a row. Other texts
    are cut into pairs for the sentence `task`, or, without a task, into windows of whole sentences. The first part of
    the training text decides.
    """

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, context: int, task: str | None):
        self.corpus, self.tokenizer, self.context, self.task = corpus, tokenizer, context, task

    def key(self, split: str) -> list[str]:
        """What the rows follow from, besides the arguments of `corpora_rows`."""
        return [*(self.corpus.splits[name]._fingerprint for name in (split, "train")), self.corpus.ends.pattern]

    def rows(self, split: str, seed: int) -> Iterator[Row]:
        """The rows of one part of the text after another.

        Each part is treated as a corpus of its own: the wrong second sentence of a pair comes from the same part, as in
        BERT's `create_pretraining_data.py` (Devlin et al. 2019), which is called on several files.
        """
        for number, part in enumerate(self.corpus.parts(split)):
            yield from self._packed(self._documents(part), seed + number * 1_000_003)

    @cached_property
    def is_short(self) -> bool:
        documents = self._documents(next(self.corpus.parts("train"), []))
        fit = [sum(map(len, document.sentences)) <= self.context - 2 for document in documents]
        return sum(fit) >= SHORT * len(fit)

    def _documents(self, part: list[list[str]]) -> list[Document]:
        return encode_documents(part, self.tokenizer, longest=max(1, self.context // 2))

    def _packed(self, documents: list[Document], seed: int) -> Iterator[Row]:
        specials = masked_specials(self.tokenizer)
        if self.is_short:
            return single_rows(documents, self.context, specials)
        if self.task == "nsp" and len(documents) == 1:  # there is no other to take a sentence from
            [(sentences, text)] = documents
            middle = (len(sentences) + 1) // 2
            documents = [Document(half, text) for half in (sentences[:middle], sentences[middle:]) if half]
        if self.task == "nsp" and len(documents) > 1:
            return next_sentence_rows(documents, self.context, specials, seed=seed)
        if self.task == "sop":
            return sentence_order_rows(documents, self.context, specials, seed=seed)
        return full_rows(documents, self.context, specials)
