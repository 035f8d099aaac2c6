"""Text in, label out: a classifier with the tokenizer it was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.attention import record_attention
from minitransformer.checks import require_given, require_whole
from minitransformer.decodable import require_scores, warn_in_training
from minitransformer.errors import InputError
from minitransformer.models import SequenceClassifier
from minitransformer.page.recording import best_of, noted
from minitransformer.page.views import Kind, Step, View, grids_of
from minitransformer.pipelines import base
from minitransformer.text_encoding import encode_texts, words_of
from minitransformer.tokenization import token_texts


class Guess(NamedTuple):
    """A label and the probability that the model gives it."""

    label: str
    probability: float


Explanation = tuple[Guess, list[tuple[str, float]]]
"""A guess, and how much each word counted for it."""


@dataclass(frozen=True)
class Classifier:
    """Gives each text its likeliest label. A batch has at most `batch_tokens` tokens, padding included."""

    model: SequenceClassifier
    tokenizer: Tokenizer
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        require_given(batch_tokens=self.batch_tokens)
        require_whole("batch_tokens", self.batch_tokens, at_least=1)
        base.require_usable(self.model, (SequenceClassifier,), self.tokenizer)

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """A run of `train.finetune`; `InputError` for anything else."""
        refusal = f"which gives no labels: python -m train.finetune --init {folder} makes a classifier of it"
        return cls(*base.load_with_tokenizer(folder, SequenceClassifier, refusal))

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        return base.save(self.model, {"tokenizer.json": self.tokenizer}, folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels; their numbers, from 0, if the model has no names."""
        return self.model.config.labels or tuple(map(str, range(self.model.config.num_labels)))

    @base.one_or_many
    def __call__(self, texts: str | Sequence[str]) -> Guess | list[Guess]:
        """The likeliest label of each text, in order. Texts longer than the model reads are cut, with one warning."""
        best = self.probabilities(texts).max(dim=1)
        return [
            Guess(self.labels[place], probability)
            for place, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    @base.one_or_many
    @torch.inference_mode()
    def probabilities(self, texts: str | Sequence[str]) -> Float[Tensor, "*texts labels"]:
        """The probability of each label, in the order of `labels`."""
        rows = self._encode(texts)
        probabilities = torch.empty(len(texts), self.model.config.num_labels)
        for places in base.batches_by_length({i: len(row) for i, row in enumerate(rows)}, self.batch_tokens):
            pad_id = getattr(self.model.encoder.config, "pad_id", 0)
            ids, valid = base.padded([rows[place] for place in places], pad_id, self.model.device)
            logits = self.model(ids, None if bool(valid.all()) else valid)
            probabilities[places] = logits.float().cpu().softmax(dim=1)
        require_scores(probabilities)
        return probabilities

    @base.one_or_many
    @torch.inference_mode()
    def explain(self, texts: str | Sequence[str]) -> Explanation | list[Explanation]:
        """The likeliest label, and how much each word of a text, and each mark such as [CLS], counted for it.

        With attention pooling that is the word's attention weight; the weights add up to 1. With mean pooling it is
        the word's share of the label's logit above the mean of all logits; the shares and the output layer's bias add
        up to that difference. Raises `InputError` for other poolings, which weigh no words.
        """
        pooling = self.model.config.pooling
        if pooling not in ("attention", "mean"):
            raise InputError(f"pooling={pooling!r} does not weigh words: attention and mean can be explained")
        return [self._explain(text, row) for text, row in zip(texts, self._encode(texts), strict=True)]

    @torch.inference_mode()
    def view(self, text: str, *, title: str | None = None) -> View:
        """Where every head and attention pooling looked, and the likeliest labels, for `attention_page`; the `title` is
        that of the model. Raises `InputError` for a model without attention."""
        base.require_text(text)
        with noted() as notes:
            [row] = self._encode([text])
            with record_attention(self.model) as maps:
                logits = self.model(torch.tensor([row], device=self.model.device))[0].float()
        require_scores(logits[None])
        tokens = token_texts(self.tokenizer, row)
        pairs: Any = {"encoder": (tokens, tokens), "decoder": (tokens, tokens), "pooling": (["whole text"], tokens)}
        steps = (Step(text, tuple((self.labels[label], share) for label, share in best_of(logits))),)
        title = title or type(self.model).__name__
        return View(title, text, grids_of(maps, pairs, {"pooling": [0]}), steps, tuple(notes))

    def map_sizes(self, text: str) -> dict[Kind, tuple[int, int]]:
        """The most queries and keys of the maps of `view(text)`, by their kind, without running the model."""
        count = len(self._encode([text])[0])
        return {"encoder": (count, count), "decoder": (count, count), "pooling": (1, count)}

    def _explain(self, text: str, row: Sequence[int]) -> Explanation:
        with record_attention(self.model.pooling) as maps:
            memory = self.model.encode(torch.tensor([row], device=self.model.device))
            pooled = self.model.pool(memory)
        logits = self.model.output(pooled)[0].float().cpu()
        require_scores(logits.softmax(dim=0)[None])
        best = int(logits.argmax())
        if self.model.config.pooling == "attention":
            [weights] = maps.values()
            counts = weights[0, 0, 0]
        else:
            direction = self.model.output.weight[best] - self.model.output.weight.mean(dim=0)
            counts = memory.states[0] @ direction / len(row)
        words = [(word, counts[places].sum().item()) for word, places in words_of(text, row, self.tokenizer)]
        return Guess(self.labels[best], logits.softmax(dim=0)[best].item()), words

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        limit = self.model.encoder.config.max_length
        rows, cut, unknown = encode_texts(texts, self.tokenizer, limit)
        base.warn_of_cut("text", cut, len(texts), limit)
        base.warn_of_unknown(unknown)
        warn_in_training(self.model)
        return rows
