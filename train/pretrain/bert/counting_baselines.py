"""How well masked tokens are restored by counts of the training text, without a model."""

from itertools import islice, pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from minitransformer.data.masked_batches import MaskedBatches
from minitransformer.data.masking import IGNORED, MaskVocabulary
from minitransformer.data.token_rows import TokenRows
from train.pretrain.bert.scores import Score, total

TOKENS_TO_COUNT = 4_000_000
"""The most training tokens that are counted: counting takes up to 130 bytes a token."""
RUN = 256
"""From a larger corpus, runs of this many consecutive rows are counted: a page of a mapped file is read as a whole."""
TITLES = {"unigram": "the most frequent token", "neighbours": "the most frequent one between both neighbours"}


class Contexts:
    """How often each token occurs in each context of the training text. A context is any whole number."""

    def __init__(self, contexts: Int[Tensor, " tokens"], tokens: Int[Tensor, " tokens"], vocab_size: int):
        self.vocab_size = vocab_size
        # NumPy's unique, unlike torch's, keeps no inverse index, which would double the memory.
        pairs, counts = np.unique((contexts.long() * vocab_size + tokens).numpy(), return_counts=True)
        self.pairs, self.counts = torch.from_numpy(pairs), torch.from_numpy(counts)
        self.contexts, self.kinds = torch.unique_consecutive(self.pairs // vocab_size, return_counts=True)
        starts = (self.kinds.cumsum(0) - self.kinds).numpy()
        self.totals = torch.from_numpy(np.add.reduceat(counts, starts))
        # The most frequent token of each context; among equally frequent tokens, the one with the lowest id.
        ranks = torch.from_numpy(np.maximum.reduceat((counts + 1) * vocab_size - pairs % vocab_size, starts)) - 1
        self.best, self.shares = vocab_size - 1 - ranks % vocab_size, ranks // vocab_size / self.totals

    def look_up(
        self, contexts: Int[Tensor, " n"], tokens: Int[Tensor, " n"], backoff: Float[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The most frequent token of each context; its share there, 0 if the context was never seen; and
        P(token | context) = (count + kinds · backoff) / (total + kinds) (Witten and Bell 1991)."""
        place, found = _find(self.contexts, contexts)
        pair, seen = _find(self.pairs, contexts * self.vocab_size + tokens)
        kinds = self.kinds[place]
        estimate = (self.counts[pair] * seen + kinds * backoff) / (self.totals[place] + kinds)
        return self.best[place], self.shares[place] * found, torch.where(found, estimate, backoff)


class CountingBaselines:
    """Guesses a masked token from `counted` tokens of the training text.

    - unigram: the most frequent token. Its probabilities are counts plus one.
    - neighbours: the most frequent token between the same two neighbours, as the model sees them. If the training text
      never has these two, or one is masked too: the most frequent token after the left or before the right neighbour,
      whichever has the larger share there; else the unigram. Probabilities back off to the shorter context's.
    """

    def __init__(
        self, rows: TokenRows, vocabulary: MaskVocabulary, *, most_tokens: int = TOKENS_TO_COUNT, run: int = RUN
    ):
        ids = _spread(rows, most_tokens, run).int()
        self.counted = len(ids)
        ordinary = torch.from_numpy(vocabulary.is_ordinary)
        self.vocab_size = len(ordinary)
        places = ordinary[ids].nonzero().squeeze(1)  # never first or last in a row: special tokens are there
        left, tokens, right = ids[places - 1], ids[places], ids[places + 1]
        counts = torch.bincount(tokens, minlength=self.vocab_size)
        self.unigram = (counts + 1.0) / (counts + 1.0)[ordinary].sum()
        self.commonest = counts.argmax()
        self.left = Contexts(left, tokens, self.vocab_size)
        self.right = Contexts(right, tokens, self.vocab_size)
        self.both = Contexts(left.long() * self.vocab_size + right, tokens, self.vocab_size)

    def scores(self, data: MaskedBatches) -> dict[str, Score]:
        """The score of each baseline on the masked tokens that `masked_score` reads from `data`."""
        scores: dict[str, list[Score]] = {name: [] for name in TITLES}
        for numbers in data.in_order():
            batch = data.batch(numbers)
            row, place = (batch["targets"] != IGNORED).nonzero(as_tuple=True)
            targets, seen = batch["targets"][row, place], batch["ids"]
            left, right = seen[row, place - 1], seen[row, place + 1]
            guesses = {"unigram": (self.commonest.expand_as(targets), self.unigram[targets])}
            guesses["neighbours"] = self.between(left, right, targets)
            for name, (guess, probability) in guesses.items():
                score = Score(-probability.log().sum().item(), int((guess == targets).sum()), len(targets))
                scores[name].append(score)
        return {name: total(parts) for name, parts in scores.items()}

    def between(self, left: Tensor, right: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The guess between each two neighbours, and the probability of the target there."""
        alone = self.unigram[targets].double()
        after, after_share, after_left = self.left.look_up(left, targets, alone)
        before, before_share, before_right = self.right.look_up(right, targets, alone)
        both = left * self.vocab_size + right
        guess, share, probability = self.both.look_up(both, targets, (after_left + before_right) / 2)
        one_side = torch.where(after_share >= before_share, after, before)
        one_side = torch.where(after_share + before_share > 0, one_side, self.commonest)
        return torch.where(share > 0, guess, one_side), probability


def _spread(rows: TokenRows, most_tokens: int, run: int) -> Int[Tensor, " tokens"]:
    """The ids of every n-th run of rows, with n chosen so that about `most_tokens` remain; all ids if there are
    fewer."""
    every = max(1, -(-len(rows.ids) // most_tokens))
    bounds = [*rows.starts[::run].tolist(), len(rows.ids)]
    return torch.cat([rows.ids[start:stop] for start, stop in islice(pairwise(bounds), 0, None, every)])


def _find(keys: Int[Tensor, " keys"], wanted: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """The place of each of `wanted` among the sorted `keys`, and whether it is there."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return place, keys[place] == wanted
