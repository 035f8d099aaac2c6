"""What all models of a comparison share: the pairs, their tokenizers and their batches."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import datasets
import torch
from tokenizers import Tokenizer

from minitransformer.data.columns import text_batches, texts
from minitransformer.data.pairs import Seq2SeqData
from minitransformer.errors import InputError
from minitransformer.models import RNNSeq2Seq, Transformer
from minitransformer.pipelines.translator import Translator
from minitransformer.tokenization import SPECIALS, train_bpe_tokenizer, train_character_tokenizer
from train.engine.tokenizer_text import beginning

LONGEST_STRING = 40
"""In characters: a corpus with a longer source than this is taken for one of sentences."""


def are_sentences(corpus: Mapping[str, datasets.Dataset]) -> bool:
    """Whether pieces of words suit these texts better than characters do."""
    return any(len(text) > LONGEST_STRING for text in texts(corpus["train"], "source"))


def tokenizers_for(split: datasets.Dataset, kind: str, *, vocab_size: int, joint: bool) -> tuple[Tokenizer, Tokenizer]:
    """For sources and targets: of characters, or by byte-pair encoding; one and the same if `joint`."""
    if kind == "character":
        return _characters(split, "source"), _characters(split, "target")
    if joint:
        both = _pieces(split, ("source", "target"), vocab_size)
        return both, both
    return _pieces(split, ("source",), vocab_size), _pieces(split, ("target",), vocab_size)


def _characters(split: datasets.Dataset, side: str) -> Tokenizer:
    return train_character_tokenizer("".join(set().union(*rows[side])) for rows in text_batches(split, side))


def _pieces(split: datasets.Dataset, sides: Sequence[str], vocab_size: int) -> Tokenizer:
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
    """A corpus as text and as tokens.

    Pairs with more than `limit` tokens on a side are left out of training, and counted in a warning; those of other
    splits stay.
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
        """The longest source and the longest target, in tokens, of all splits."""
        longest = torch.stack([pairs.lengths.max(dim=0).values for pairs in self.pairs.values()]).max(dim=0).values
        return int(longest[0]), int(longest[1])

    @property
    def test_name(self) -> str:
        """The split that the final figures are of."""
        return "test" if "test" in self.corpus else "validation"

    def translator(self, model: Transformer | RNNSeq2Seq) -> Translator:
        return Translator(model, self.source_tokenizer, self.target_tokenizer)

    def translations(
        self, model: Transformer | RNNSeq2Seq, split: str, *, beam_size: int = 1, alpha: float = 0.6
    ) -> list[str]:
        # Bounded near the longest target, or models that cannot stop yet would take most of the time.
        return self.translator(model)(
            self.corpus[split]["source"], max_new_tokens=self.longest[1] + 10, beam_size=beam_size, alpha=alpha
        )

    @torch.inference_mode()
    def loss(self, model: Transformer | RNNSeq2Seq, split: str) -> float:
        """In nats per target token."""
        pairs = self.pairs[split]
        losses = [
            model.loss({key: value.to(model.device) for key, value in pairs.batch(rows).items()})["lm"]
            for rows in pairs.batches(8192, seed=None)
        ]
        return sum(part.total.item() for part in losses) / sum(part.count.item() for part in losses)
