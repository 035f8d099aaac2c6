"""How well masked tokens are restored: by a model, and by two counts of the training text that need no model."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED, MaskVocabulary
from minitransformer.data.sentences import Rows
from minitransformer.models import BERT

TOKENS_TO_COUNT = 4_000_000
"""Counted for the baselines, of larger corpora: counting takes up to 130 bytes a token."""
RUN = 256
"""Rows that are read one after another, of those that are counted: of a mapped file every page is read whole."""


@dataclass(frozen=True)
class Score:
    """Sums over masked tokens, in nats, and over pairs of sentences."""

    nats: float = 0.0
    right: int = 0
    tokens: int = 0
    right_pairs: int = 0
    pairs: int = 0

    def plus(self, other: "Score") -> "Score":
        return Score(
            self.nats + other.nats,
            self.right + other.right,
            self.tokens + other.tokens,
            self.right_pairs + other.right_pairs,
            self.pairs + other.pairs,
        )

    def figures(self) -> dict[str, float]:
        """Mean loss and accuracy over the masked tokens, and `sentence_accuracy` where there were pairs."""
        figures = {"loss": self.nats / max(1, self.tokens), "accuracy": self.right / max(1, self.tokens)}
        return figures | ({"sentence_accuracy": self.right_pairs / self.pairs} if self.pairs else {})


@torch.inference_mode()
def masked_score(model: BERT, data: MaskedBatches, *, every: int = 1) -> Score:
    """The model on all rows of `data`, masked as in epoch 0; to look quickly, on one batch of `every` so many."""
    model.eval()
    score = Score()
    batches = data.in_order()
    for place in range(0, len(batches), every):
        batch = {name: tensor.to(model.device) for name, tensor in data.batch(batches[place]).items()}
        states = model(batch["ids"], batch["valid"], batch.get("segment_ids"))
        picked = batch["targets"] != IGNORED
        targets, logits = batch["targets"][picked], model.predict_tokens(states[picked]).float()
        loss = F.cross_entropy(logits, targets, reduction="sum").item()
        score = score.plus(Score(loss, int((logits.argmax(dim=1) == targets).sum()), len(targets)))
        if "sentence_labels" in batch and model.config.sentence_head is not None:
            guessed = model.predict_sentence(states).argmax(dim=1)
            right = int((guessed == batch["sentence_labels"]).sum())
            score = score.plus(Score(right_pairs=right, pairs=len(guessed)))
    return score


class Contexts:
    """How often each token stood in each context of the training text, a context being any whole number."""

    def __init__(self, contexts: Int[Tensor, " tokens"], tokens: Int[Tensor, " tokens"], vocab_size: int):
        self.vocab_size = vocab_size
        # NumPy sorts without keeping where each came from, which would take as much memory again.
        pairs, counts = np.unique((contexts.long() * vocab_size + tokens).numpy(), return_counts=True)
        self.pairs, self.pair_counts = torch.from_numpy(pairs), torch.from_numpy(counts)
        self.contexts, self.kinds = torch.unique_consecutive(self.pairs // vocab_size, return_counts=True)
        starts = (self.kinds.cumsum(0) - self.kinds).numpy()
        best_counts = np.maximum.reduceat(counts, starts)
        self.totals, self.best_counts = torch.from_numpy(np.add.reduceat(counts, starts)), torch.from_numpy(best_counts)
        # Of a context's tokens, which are sorted, the first that has the largest count: of equals, the lowest.
        best = np.flatnonzero(counts == best_counts.repeat(self.kinds.numpy()))
        self.best = self.pairs[best[best.searchsorted(starts)]] % vocab_size

    def look_up(self, contexts: Int[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each context: how many tokens stood in it, of how many kinds, the commonest, and its share (0: unseen)."""
        place, found = _find(self.contexts, contexts)
        total = self.totals[place] * found
        return total, self.kinds[place] * found, self.best[place], self.best_counts[place] / total.clamp(min=1) * found

    def counts(self, contexts: Int[Tensor, " n"], tokens: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        place, found = _find(self.pairs, contexts * self.vocab_size + tokens)
        return self.pair_counts[place] * found

    def smoothed(
        self, contexts: Int[Tensor, " n"], tokens: Int[Tensor, " n"], backoff: Float[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """P(token | context) = (count + kinds · backoff) / (total + kinds) (Witten and Bell 1991)."""
        total, kinds, _, _ = self.look_up(contexts)
        estimate = (self.counts(contexts, tokens) + kinds * backoff) / (total + kinds).clamp(min=1)
        return torch.where(total > 0, estimate, backoff)


class CountingBaselines:
    """Guesses of a masked token from counts of the training text, or, where that is large, of runs of rows from all
    over it, `counted` tokens in all.

    - unigram: the most frequent token. Its probabilities are counts plus one.
    - neighbours: the most frequent token between the same two neighbours, as the model sees them; where they never
      stood so, or one is masked too, the most frequent one after the left or before the right neighbour, whichever
      made up the larger share there; else the unigram. Probabilities are smoothed with those of the shorter context.
    """

    def __init__(self, rows: Rows, vocabulary: MaskVocabulary):
        ids = _spread(rows).int()
        self.counted = len(ids)
        ordinary = torch.from_numpy(vocabulary.is_ordinary)
        self.vocab_size = len(ordinary)
        places = ordinary[ids].nonzero().squeeze(1)  # never at either end of a row, where the special tokens are
        left, tokens, right = ids[places - 1], ids[places], ids[places + 1]
        counts = torch.bincount(tokens, minlength=self.vocab_size)
        self.unigram = (counts + 1.0) / (counts + 1.0)[ordinary].sum()
        self.commonest = counts.argmax()
        self.left = Contexts(left, tokens, self.vocab_size)
        self.right = Contexts(right, tokens, self.vocab_size)
        self.both = Contexts(left.long() * self.vocab_size + right, tokens, self.vocab_size)

    def scores(self, data: MaskedBatches) -> dict[str, Score]:
        """On the masked tokens that `masked_score` reads from `data`."""
        totals = {"unigram": Score(), "neighbours": Score()}
        for numbers in data.in_order():
            batch = data.batch(numbers)
            row, place = (batch["targets"] != IGNORED).nonzero(as_tuple=True)
            targets, seen = batch["targets"][row, place], batch["ids"]
            left, right = seen[row, place - 1], seen[row, place + 1]
            guesses = {"unigram": (self.commonest.expand_as(targets), self.unigram[targets])}
            guesses["neighbours"] = (self._guess(left, right), self._probability(left, right, targets))
            for name, (guess, probability) in guesses.items():
                score = Score(-probability.log().sum().item(), int((guess == targets).sum()), len(targets))
                totals[name] = totals[name].plus(score)
        return totals

    def _guess(self, left: Tensor, right: Tensor) -> Tensor:
        seen, _, between, _ = self.both.look_up(left * self.vocab_size + right)
        after_seen, _, after, after_share = self.left.look_up(left)
        before_seen, _, before, before_share = self.right.look_up(right)
        one_side = torch.where(after_share >= before_share, after, before)
        one_side = torch.where(after_seen + before_seen > 0, one_side, self.commonest)
        return torch.where(seen > 0, between, one_side)

    def _probability(self, left: Tensor, right: Tensor, targets: Tensor) -> Tensor:
        alone = self.unigram[targets].double()
        sides = (self.left.smoothed(left, targets, alone) + self.right.smoothed(right, targets, alone)) / 2
        return self.both.smoothed(left * self.vocab_size + right, targets, sides)


def _spread(rows: Rows) -> Int[Tensor, " tokens"]:
    """The ids of one run of rows in so many that about `TOKENS_TO_COUNT` remain; all, if there are no more."""
    every = max(1, -(-len(rows.ids) // TOKENS_TO_COUNT))
    starts, ends = rows.offsets[:-1:RUN][::every], rows.offsets[RUN::RUN][::every]
    stops = ends.tolist() + [len(rows.ids)] * (len(starts) - len(ends))
    return torch.cat([rows.ids[start:stop] for start, stop in zip(starts.tolist(), stops, strict=True)])


def _find(keys: Int[Tensor, " keys"], wanted: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Where each of `wanted` is among the sorted `keys`, and whether it is there."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return place, keys[place] == wanted
