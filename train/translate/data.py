"""The pairs of a comparison: read as text, encoded by tokenizers trained on them, and translated by its models."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import datasets
import torch
from tokenizers import Tokenizer

from minitransformer.beam import ALPHA
from minitransformer.data.columns import texts
from minitransformer.data.pair_batches import Seq2SeqData
from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from minitransformer.tokenization import train_bpe_tokenizer, train_character_tokenizer
from train.engine.tokenizer_text import first
from train.engine.training_data import evaluation_tokens
from train.translate.recipes import Seq2SeqModel

VOCAB_SIZE = 8000
"""Tokens of a bpe vocabulary, unless the texts have many characters."""

LONG = 1000
"""Tokens of a text that a batch is quick with, whatever the others are."""


def tokenizers_for(
    split: datasets.Dataset, kind: str, *, vocab_size: int | None, joint: bool
) -> tuple[Tokenizer, Tokenizer]:
    """Tokenizers of the sources and the targets; of kind "bpe" and with `joint`, one object for both."""
    if kind == "character":
        return train_character_tokenizer(texts(split, "source")), train_character_tokenizer(texts(split, "target"))

    def trained_on(*columns: str) -> Tokenizer:
        def read() -> Iterator[str]:
            return chain.from_iterable(first(texts(split, column), of=f"the {column}s") for column in columns)

        # Chinese and Japanese texts have thousands of characters.
        size = vocab_size or max(VOCAB_SIZE, len(set(chain.from_iterable(read()))) + VOCAB_SIZE // 4)
        return train_bpe_tokenizer(read(), size)

    if joint:
        both = trained_on("source", "target")
        return both, both
    return trained_on("source"), trained_on("target")


@dataclass(frozen=True)
class TranslationData:
    """A corpus as text and as tokens, by split.

    Training pairs with more than `limit` tokens on a side are left out, and counted in a warning. Other splits keep
    theirs.
    """

    corpus: Mapping[str, datasets.Dataset]
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    pairs: Mapping[str, Seq2SeqData]

    @classmethod
    def of(
        cls,
        corpus: Mapping[str, datasets.Dataset],
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        limit: int | None,
    ) -> "TranslationData":
        pairs = {name: Seq2SeqData(split, source_tokenizer, target_tokenizer) for name, split in corpus.items()}
        if limit is not None:
            whole = pairs["train"]
            pairs["train"] = whole.within(limit)
            kept = len(pairs["train"])
            if not kept:
                raise InputError(f"no training pair has at most {limit} tokens on both sides: raise --max-length")
            if dropped := len(whole) - kept:
                warnings.warn(
                    f"{dropped:,} of {len(whole):,} training pairs have more than {limit} tokens on a side "
                    "(--max-length) and are left out",
                    stacklevel=2,
                )
        median = int(pairs["train"].lengths.amax(dim=1).median())
        for name, part in pairs.items():
            if len(part) and (most := int(part.lengths.max())) > max(LONG, 20 * median):
                way_out = "--max-length leaves them out" if name == "train" else f"take them out of the {name} split"
                warnings.warn(
                    f"the longest {name} pair has {most:,} tokens on a side, the median training pair {median:,}: "
                    f"batches with such pairs take long; {way_out}",
                    stacklevel=2,
                )
        return cls(corpus, source_tokenizer, target_tokenizer, pairs)

    def max_extra_tokens(self, least: int) -> int:
        """The limit of a translation, which the model's configuration keeps: `least` tokens more than the source, or 10
        more than any target for training or validation needs. No limit is chosen on test data."""
        seen = [self.pairs[split].lengths for split in ("train", "validation")]
        most = max(int((lengths[:, 1] - lengths[:, 0]).max()) for lengths in seen)
        return max(least, most - 1 + 10)  # BOS is no token of a translation

    @property
    def test_name(self) -> str:
        """The split that final scores are computed on."""
        return "test" if "test" in self.corpus else "validation"

    def translator(self, model: Seq2SeqModel) -> Translator:
        # Each of perhaps four source tokens may be a line, which has logits at every step.
        tokens = evaluation_tokens(model.config.target_vocab_size // 4, most=Translator.batch_tokens)
        return Translator(model, self.source_tokenizer, self.target_tokenizer, batch_tokens=tokens)

    def translations(self, model: Seq2SeqModel, split: str, *, beam_size: int = 1, alpha: float = ALPHA) -> list[str]:
        """As the `translate` command translates, under the same limit."""
        with limit_of_the_data():
            return self.translator(model)(self.corpus[split]["source"], beam_size=beam_size, alpha=alpha)

    @torch.inference_mode()
    def loss(self, model: Seq2SeqModel, split: str) -> float:
        """Mean loss in nats per target token."""
        pairs = self.pairs[split]
        losses = [
            model.loss({key: value.to(model.device) for key, value in pairs.batch(rows).items()})["lm"]
            for rows in pairs.batches(evaluation_tokens(model.config.target_vocab_size), seed=None)
        ]
        return sum(part.total.item() for part in losses) / sum(part.count.item() for part in losses)


@contextmanager
def limit_of_the_data() -> Iterator[None]:
    """Within the block, a warning of translations that were cut off names training as the way out: the commands that
    train and compare have no flag for this limit, which follows from the data."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        parameter, way_out = "max_new_tokens= sets another limit", "train longer: --minutes, --steps"
        warnings.warn(str(warning.message).replace(parameter, way_out), stacklevel=3)
