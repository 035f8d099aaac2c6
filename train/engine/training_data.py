"""The data that the loop reads: batches without end, of anything with the two methods of `TrainingData`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from minitransformer.data.labelled_batches import LabelledData
from minitransformer.data.pair_batches import Seq2SeqData
from train.engine.state import State

Batch = dict[str, Tensor]


@runtime_checkable
class TrainingData(Protocol):
    """Batches without end: `epoch` lists the rows of each batch, by the epoch's number alone; `batch` makes tensors.

    `fixed_shapes = True` beside these says that all batches but an epoch's last are of one shape.
    """

    def epoch(self, number: int) -> Sequence[Sequence[int]]: ...

    def batch(self, rows: Sequence[int]) -> Batch: ...


class Rows:
    """Rows of tensors in batches of one size, in an order that depends on the seed and the epoch alone.

    The first axis of every tensor is the rows: `{"ids": (N, T), "labels": (N,)}`. The last batch may be smaller.
    """

    def __init__(self, rows: Mapping[str, Tensor], batch_size: int, seed: int = 0):
        self.rows, self.batch_size, self.seed = rows, batch_size, seed

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(len(next(iter(self.rows.values()))), generator=generator)
        return [part.tolist() for part in order.split(self.batch_size)]

    def batch(self, rows: Sequence[int]) -> Batch:
        return {name: tensor[list(rows)] for name, tensor in self.rows.items()}


class Feed:
    """Pairs or labelled texts in batches of `max_tokens`, in an order that depends on the seed and the epoch alone."""

    def __init__(self, data: Seq2SeqData | LabelledData, max_tokens: int, pool: int, seed: int):
        self.data, self.max_tokens, self.pool, self.seed = data, max_tokens, pool, seed

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        return self.data.batches(self.max_tokens, seed=self.seed * 1_000_003 + number, pool=self.pool)

    def batch(self, rows: Sequence[int]) -> Batch:
        return self.data.batch(rows)


def batches_from(data: TrainingData, state: State) -> Iterator[list[int]]:
    """The rows of each batch from the run's position on, one epoch after another; `state` counts the position."""
    while True:
        rows = data.epoch(state.epoch)
        while state.position < len(rows):
            state.position += 1
            yield list(rows[state.position - 1])
        state.epoch, state.position = state.epoch + 1, 0


LOGITS = 1 << 25
"""The most logits of an evaluation at once: 128 MB, and as much again for their softmax."""


def evaluation_tokens(vocab_size: int, *, most: int = 8192) -> int:
    """How many tokens to predict at once in an evaluation, so that it takes little more memory than a step, whatever
    the size of the vocabulary."""
    return max(1, min(most, LOGITS // vocab_size))
