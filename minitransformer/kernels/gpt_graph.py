"""The steps of a generation as one CUDA graph.

A step of decoding is a few hundred kernels of a few microseconds each, and to launch them takes Python several times as
long as the GPU needs to run them. A graph is recorded once and launches them all. Its shapes and addresses are the same
at every step: attention reads whole blocks of slots of the caches, of which a mask shows the filled ones. Speeds up
`greedy` and `sample` of a GPT on a GPU.

The graph holds the addresses of the weights, and no module runs when it is replayed. So it serves one call, in which
nothing else runs (`one_call`), of a model whose step is `gpt_step`'s.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minitransformer.cache import KVCache
from minitransformer.kernels import current_call
from minitransformer.kernels.gpt_step import FlatStep

Logits = Callable[[Float[Tensor, "batch d_model"]], Float[Tensor, "batch vocab"]]

_BLOCK = 256
"""Slots. A longer block makes attention read more slots that are empty, a shorter one records more graphs."""
_FIRST_STEPS = 2
"""Steps before a graph is recorded. A beam search, which selects rows at every step, never has one."""
_FEWEST_STEPS = 16
"""To record a graph takes as long as a few steps."""


class FixedStep:
    """A step that finds its token, position and slot in tensors of its own, and moves them on."""

    def __init__(
        self,
        flat: FlatStep,
        logits_of: Logits,
        caches: Sequence[KVCache],
        position_ids: Int[Tensor, "#batch 1"],
        valid: Bool[Tensor, "batch slots"] | None,
        batch_size: int,
    ):
        seen, slots = caches[0].num_seen, caches[0].max_length
        self.flat, self.logits_of, self.caches, self.valid = flat, logits_of, caches, valid
        self.width = min(slots, (seen // _BLOCK + 1) * _BLOCK)
        self.ids = position_ids.new_zeros(batch_size)
        self.position_ids = position_ids.clone()
        self.slot = position_ids.new_full((1,), seen)
        self.slots = torch.arange(self.width, device=position_ids.device)
        for cache in caches:  # what memory held before may be NaN, which no mask hides
            cache.pairs[:, :, seen : self.width] = 0

    def __call__(self) -> Float[Tensor, "batch vocab"]:
        mask = (self.slots <= self.slot)[None, None, None]
        if self.valid is not None:
            mask = mask & self.valid[:, None, None, : self.width]
        slots = [_Slot(cache, self.slot, self.width) for cache in self.caches]
        logits = self.logits_of(self.flat(self.ids, self.position_ids, mask, slots))
        self.slot += 1
        self.position_ids += 1
        return logits

    def has_room(self) -> bool:
        return self.caches[0].num_seen < self.width


class _Slot:
    """The slot of a cache that the next token takes."""

    def __init__(self, cache: KVCache, slot: Tensor, width: int):
        self.pairs, self.slot, self.width = cache.pairs, slot, width

    def append_pairs(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        self.pairs.index_copy_(2, self.slot, pairs)
        keys, values = self.pairs.narrow(2, 0, self.width).chunk(2, dim=1)
        return keys, values


class StepGraph:
    """The steps of one call of `greedy` or `sample`, eager at first and then as a graph."""

    def __init__(self) -> None:
        self.call: object | None = None
        self.steps = 0
        self.step: FixedStep | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: Tensor | None = None

    def takes(self, flat: FlatStep, caches: Sequence[KVCache]) -> bool:
        """Whether the next step is the graph's."""
        call, seen = current_call(), caches[0].num_seen
        if call is None or flat.parts.compared_in is not call or seen >= caches[0].max_length:
            return False
        if self.call is not call:
            self.call, self.steps, self.step = call, 0, None
        self.steps += 1
        if self.step is not None and self.step.has_room():
            return True
        self.step = self.graph = self.logits = None
        return self.steps > _FIRST_STEPS and caches[0].max_length - seen >= _FEWEST_STEPS

    def __call__(
        self,
        ids: Int[Tensor, " batch"],
        flat: FlatStep,
        logits_of: Logits,
        caches: Sequence[KVCache],
        position_ids: Int[Tensor, "#batch 1"],
        valid: Bool[Tensor, "batch slots"] | None,
    ) -> Float[Tensor, "batch vocab"]:
        """Logits, in memory that the next step writes over."""
        if self.step is None:
            self.step = FixedStep(flat, logits_of, caches, position_ids, valid, len(ids))
            self.step.ids.copy_(ids)
            logits = self.step()  # outside of the graph, which has no room for what a first call of a kernel does
            self._record()
        else:
            assert self.graph is not None and self.logits is not None
            self.step.ids.copy_(ids)
            self.graph.replay()
            logits = self.logits
        for cache in caches:
            cache.num_seen += 1
        return logits

    def _record(self) -> None:
        assert self.step is not None
        self.graph = torch.cuda.CUDAGraph()
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self.graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the GPU
            self.logits = self.step()
            self.graph.capture_end()
        here.wait_stream(aside)
