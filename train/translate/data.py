"""The pairs of a comparison: read as text, encoded by tokenizers trained on them, and translated by its models."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import datasets
import torch
from tokenizers import Tokenizer

from minitransformer.data.columns import text_batches, texts
from minitransformer.data.pair_batches import Seq2SeqData
from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from minitransformer.tokenization import SPECIALS, train_bpe_tokenizer, train_character_tokenizer
from train.engine.tokenizer_text import beginning
from train.translate.recipes import Seq2SeqModel

LONGEST_STRING = 40
"""In characters. Texts with a longer source than this are sentences, which subwords suit better than characters."""


def are_sentences(split: datasets.Dataset) -> bool:
    return any(len(text) > LONGEST_STRING for text in texts(split, "source"))


def tokenizers_for(split: datasets.Dataset, kind: str, *, vocab_size: int, joint: bool) -> tuple[Tokenizer, Tokenizer]:
    """Tokenizers of the sources and the targets; of kind "bpe" and with `joint`, one object for both."""
    if kind == "character":
        return _character_tokenizer(split, "source"), _character_tokenizer(split, "target")
    if joint:
        both = _bpe_tokenizer(split, ("source", "target"), vocab_size)
        return both, both
    return _bpe_tokenizer(split, ("source",), vocab_size), _bpe_tokenizer(split, ("target",), vocab_size)


def _character_tokenizer(split: datasets.Dataset, side: str) -> Tokenizer:
    return train_character_tokenizer("".join(set().union(*rows[side])) for rows in text_batches(split, side))


def _bpe_tokenizer(split: datasets.Dataset, sides: Sequence[str], vocab_size: int) -> Tokenizer:
    counts, alphabets = zip(*(beginning(split, side) for side in sides), strict=True)
    characters = set().union(*alphabets)
    if vocab_size < (least := len(SPECIALS) + len(characters)):
        what = f"the {sides[0]}" if len(sides) == 1 else f"{' and '.join(sides)} together"
        raise InputError(
            f"--vocab-size {vocab_size} is too small for {what}: training text has {len(characters)} different "
            f"characters, so it must be at least {least}"
        )
    learned_from = (islice(texts(split, side), count) for side, count in zip(sides, counts, strict=True))
    return train_bpe_tokenizer(chain.from_iterable(learned_from), vocab_size)


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
        return cls(corpus, source_tokenizer, target_tokenizer, pairs)

    @property
    def joint(self) -> bool:
        """Whether source and target share a vocabulary."""
        return self.source_tokenizer is self.target_tokenizer

    @property
    def longest(self) -> tuple[int, int]:
        """The lengths of the longest source and of the longest target of all splits, in tokens."""
        longest = torch.stack([pairs.lengths.max(dim=0).values for pairs in self.pairs.values()]).max(dim=0).values
        return int(longest[0]), int(longest[1])

    @property
    def test_name(self) -> str:
        """The split that final scores are computed on."""
        return "test" if "test" in self.corpus else "validation"

    def translator(self, model: Seq2SeqModel) -> Translator:
        return Translator(model, self.source_tokenizer, self.target_tokenizer)

    def translations(self, model: Seq2SeqModel, split: str, *, beam_size: int = 1, alpha: float = 0.6) -> list[str]:
        # Without a limit near the longest target, models that have not learned to stop would take most of the time.
        limit = self.longest[1] + 10
        sources = self.corpus[split]["source"]
        return self.translator(model)(sources, max_new_tokens=limit, beam_size=beam_size, alpha=alpha)

    @torch.inference_mode()
    def loss(self, model: Seq2SeqModel, split: str) -> float:
        """Mean loss in nats per target token."""
        pairs = self.pairs[split]
        losses = [
            model.loss({key: value.to(model.device) for key, value in pairs.batch(rows).items()})["lm"]
            for rows in pairs.batches(8192, seed=None)
        ]
        return sum(part.total.item() for part in losses) / sum(part.count.item() for part in losses)
