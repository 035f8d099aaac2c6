"""The batches of an epoch, kept as what they follow from: a few bytes a row, where a list has forty."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, overload

import torch
from jaxtyping import Int
from torch import Tensor


class Batches(Sequence[list[int]]):
    """A batch is made when it is asked for. Equal to a list of the same batches."""

    @abstractmethod
    def numbers(self, place: int) -> Int[Tensor, " batch"]:
        """Those of the batch at `place`, which is there."""

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"batch {place} of {len(self)}")
        return self.numbers(place % len(self)).tolist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list's


class RowBatches(Batches):
    """Batch i has the rows `order[starts[i] : ends[i]]`, each with `offset` added to its number."""

    def __init__(
        self,
        order: Int[Tensor, " rows"],
        starts: Int[Tensor, " batches"],
        ends: Int[Tensor, " batches"],
        *,
        offset: int = 0,
    ):
        self.order, self.starts, self.ends, self.offset = order, starts, ends, offset

    def __len__(self) -> int:
        return len(self.ends)

    def numbers(self, place: int) -> Int[Tensor, " batch"]:
        return self.order[int(self.starts[place]) : int(self.ends[place])].long() + self.offset

    def shuffled(self, generator: torch.Generator) -> "RowBatches":
        """The same batches in another order."""
        places = torch.randperm(len(self), generator=generator)
        return RowBatches(self.order, self.starts[places], self.ends[places], offset=self.offset)
