"""Training data that is small enough for tensors: rows in random batches of one size."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


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

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return {name: tensor[list(rows)] for name, tensor in self.rows.items()}
