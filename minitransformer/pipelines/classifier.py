"""Text in, label out: a classifier with the tokenizer it was trained with."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.attention import record_attention
from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.models import SequenceClassifier
from minitransformer.text_encoding import encode_texts, pad, words_of
from minitransformer.tokenization import load_tokenizer


class Guess(NamedTuple):
    """A label and how probable the model finds it."""

    label: str
    probability: float


@dataclass(frozen=True)
class Classifier:
    """Gives each text its likeliest label. `batch_tokens` bounds the tokens, padding included, that run at once."""

    model: SequenceClassifier
    tokenizer: Tokenizer
    batch_tokens: int = 8192

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """A run of `train.finetune`; `InputError` for anything else."""
        import minitransformer

        folder = Path(folder)
        model = minitransformer.load(folder)
        if not isinstance(model, SequenceClassifier):
            raise InputError(
                f"{folder} holds a {type(model).__name__}, which gives no labels: python -m train.finetune --init "
                f"{folder} makes a classifier of it"
            )
        size = vocab_size(model.encoder.config)
        return cls(model, load_tokenizer(folder / "tokenizer.json", vocab_size=size))

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        folder = self.model.save(folder)
        with atomic(folder / "tokenizer.json") as temporary:
            self.tokenizer.save(str(temporary))
        return folder

    @property
    def labels(self) -> tuple[str, ...]:
        """Numbers, from 0, where the model has no names for them."""
        return self.model.config.labels or tuple(map(str, range(self.model.config.num_labels)))

    def __call__(self, texts: Sequence[str]) -> list[Guess]:
        """One guess a text, in order. Texts that are longer than the model reads are cut, and counted in a warning."""
        best = self.probabilities(texts).max(dim=1)
        return [
            Guess(self.labels[place], probability)
            for place, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> Float[Tensor, "texts labels"]:
        """The probability of each label, in the order of `labels`."""
        rows = self._encode(texts)
        probabilities = torch.empty(len(texts), self.model.config.num_labels)
        # Neighbours in length run together, so that little is padding.
        waiting = sorted(range(len(texts)), key=lambda place: len(rows[place]))
        while waiting:
            size = max(1, self.batch_tokens // len(rows[waiting[-1]]))
            places, waiting = waiting[-size:], waiting[:-size]
            probabilities[places] = self._logits([rows[place] for place in places]).softmax(dim=1)
        return probabilities

    @torch.inference_mode()
    def explain(self, text: str) -> tuple[Guess, list[tuple[str, float]]]:
        """The guess, and how much each word of the text counted in it; marks such as [CLS] are words here.

        With attention pooling that is the word's attention weight; the weights add up to 1. With mean pooling it is
        the word's part of the label's logit over the mean of all logits: these, and the output layer's bias, add up to
        that difference. Other poolings choose states, not words, and are refused.
        """
        pooling = self.model.config.pooling
        if pooling not in ("attention", "mean"):
            raise InputError(f"pooling={pooling!r} does not weigh words: attention and mean can be explained")
        [row] = self._encode([text])
        ids = torch.tensor([row], device=self.model.device)
        with record_attention(self.model.pooling) as maps:
            memory = self.model.encode(ids)
            pooled = self.model.pool(memory)
        logits = self.model.output(pooled)[0].float().cpu()
        best = int(logits.argmax())
        if pooling == "attention":
            [weights] = maps.values()
            counts = weights[0, 0, 0]
        else:
            direction = self.model.output.weight[best] - self.model.output.weight.mean(dim=0)
            counts = memory.states[0] @ direction / len(row)
        words: list[tuple[str, float]] = []
        for word, places in words_of(text, row, self.tokenizer):
            words.append((word, counts[places].sum().item()))
        return Guess(self.labels[best], logits.softmax(dim=0)[best].item()), words

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        limit = self.model.encoder.config.max_length
        rows, cut = encode_texts(texts, self.tokenizer, limit)
        warn_of_cut(cut, len(texts), limit)
        return rows

    def _logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad(rows, getattr(self.model.encoder.config, "pad_id", 0))
        valid = torch.arange(ids.shape[1]) < lengths[:, None]
        device = self.model.device
        return self.model(ids.to(device), None if bool(valid.all()) else valid.to(device)).float().cpu()


def vocab_size(config: object) -> int:
    """How many tokens an encoder of this configuration knows."""
    return getattr(config, "vocab_size", None) or getattr(config, "source_vocab_size")  # noqa: B009 - no common type


def warn_of_cut(cut: int, count: int, limit: int) -> None:
    if cut:
        warnings.warn(
            f"{cut} of {count:,} texts are longer than the {limit} tokens that the model reads, and were cut there",
            stacklevel=3,
        )
