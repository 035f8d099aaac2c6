"""Training data in batches of about equally many tokens, in an order that a resumed run repeats."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

LOGITS = 1 << 25
"""The most logits of an evaluation at once: 128 MB, and as much again for their softmax."""


def evaluation_tokens(vocab_size: int, *, most: int = 8192) -> int:
    """How many tokens to predict at once in an evaluation, so that it takes little more memory than a step, whatever
    the size of the vocabulary."""
    return max(1, min(most, LOGITS // vocab_size))


@runtime_checkable
class Batched(Protocol):
    """Rows of uneven length, such as `Seq2SeqData` and `LabelledData`."""

    def batches(self, max_tokens: int, *, seed: int | None, pool: int | None = None) -> Sequence[list[int]]: ...

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]: ...


class Feed:
    """All rows in batches of `max_tokens`, in an order that depends on the seed and the epoch alone."""

    def __init__(self, data: Batched, max_tokens: int, pool: int, seed: int):
        self.data, self.max_tokens, self.pool, self.seed = data, max_tokens, pool, seed

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        return self.data.batches(self.max_tokens, seed=self.seed * 1_000_003 + number, pool=self.pool)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return self.data.batch(rows)
