"""Text in, label out: a classifier with the tokenizer it was trained with."""

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
from minitransformer.models import SequenceClassifier
from minitransformer.pipelines import base
from minitransformer.text_encoding import encode_texts, words_of
from minitransformer.tokenization import load_tokenizer


class Guess(NamedTuple):
    """A label and the probability that the model gives it."""

    label: str
    probability: float


@dataclass(frozen=True)
class Classifier:
    """Gives each text its likeliest label. A batch has at most `batch_tokens` tokens, padding included."""

    model: SequenceClassifier
    tokenizer: Tokenizer
    batch_tokens: int = 8192

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """A run of `train.finetune`; `InputError` for anything else."""
        refusal = f"which gives no labels: python -m train.finetune --init {folder} makes a classifier of it"
        model = base.load_model(folder, SequenceClassifier, refusal)
        return cls(model, load_tokenizer(Path(folder) / "tokenizer.json", vocab_size=vocab_size(model.encoder.config)))

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        return base.save(self.model, {"tokenizer.json": self.tokenizer}, folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels; their numbers, from 0, if the model has no names."""
        return self.model.config.labels or tuple(map(str, range(self.model.config.num_labels)))

    def __call__(self, texts: Sequence[str]) -> list[Guess]:
        """The likeliest label of each text, in order. Texts longer than the model reads are cut, with one warning."""
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
        for places in base.batches_by_length({i: len(row) for i, row in enumerate(rows)}, self.batch_tokens):
            pad_id = getattr(self.model.encoder.config, "pad_id", 0)
            ids, valid = base.padded([rows[place] for place in places], pad_id, self.model.device)
            logits = self.model(ids, None if bool(valid.all()) else valid)
            probabilities[places] = logits.float().cpu().softmax(dim=1)
        return probabilities

    @torch.inference_mode()
    def explain(self, text: str) -> tuple[Guess, list[tuple[str, float]]]:
        """The likeliest label, and how much each word of the text, and each mark such as [CLS], counted for it.

        With attention pooling that is the word's attention weight; the weights add up to 1. With mean pooling it is
        the word's share of the label's logit above the mean of all logits; the shares and the output layer's bias add
        up to that difference. Raises `InputError` for other poolings, which weigh no words.
        """
        pooling = self.model.config.pooling
        if pooling not in ("attention", "mean"):
            raise InputError(f"pooling={pooling!r} does not weigh words: attention and mean can be explained")
        [row] = self._encode([text])
        with record_attention(self.model.pooling) as maps:
            memory = self.model.encode(torch.tensor([row], device=self.model.device))
            pooled = self.model.pool(memory)
        logits = self.model.output(pooled)[0].float().cpu()
        best = int(logits.argmax())
        if pooling == "attention":
            [weights] = maps.values()
            counts = weights[0, 0, 0]
        else:
            direction = self.model.output.weight[best] - self.model.output.weight.mean(dim=0)
            counts = memory.states[0] @ direction / len(row)
        words = [(word, counts[places].sum().item()) for word, places in words_of(text, row, self.tokenizer)]
        return Guess(self.labels[best], logits.softmax(dim=0)[best].item()), words

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        limit = self.model.encoder.config.max_length
        encoded = encode_texts(texts, self.tokenizer, limit)
        base.warn_of_cut("text", encoded.cut, len(texts), limit)
        base.warn_of_unknown(encoded.unknown)
        return encoded.rows


def vocab_size(config: object) -> int:
    """The number of tokens that an encoder of this configuration knows."""
    return getattr(config, "vocab_size", None) or getattr(config, "source_vocab_size")  # noqa: B009 - no common type
