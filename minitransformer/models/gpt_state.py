"""The state of a GPT between two steps of decoding."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from minitransformer.cache import KVCache
from minitransformer.errors import InputError
from minitransformer.kernels.gpt_graph import StepGraph
from minitransformer.kernels.gpt_step import FlatStep
from minitransformer.masks import padding_mask
from minitransformer.models.transformer_parts import left_padded


class GPTState:
    """What decoding carries: the caches, the next position of each row, and the tokens in the context.

    The rows share the slots of the caches and are padded on the left, so that all of them end in the newest slot.
    `valid` is None where nothing is padded: attention is faster without a mask.
    """

    def __init__(
        self,
        caches: list[KVCache],
        position_ids: Int[Tensor, "#batch 1"],
        ids: Int[Tensor, "batch prompt"],
        valid: Bool[Tensor, "batch prompt"] | None,
        flat: FlatStep | None,
        *,
        max_length: int,
    ):
        self.caches = caches
        self.position_ids = position_ids
        self.flat = flat
        self.graph = StepGraph()
        self.max_length = max_length
        num_slots = caches[0].max_length
        self.ids = F.pad(ids, (0, num_slots - ids.shape[1]))
        self.valid = None if valid is None else F.pad(valid, (0, num_slots - ids.shape[1]), value=True)

    def append(self, ids: Int[Tensor, " batch"]) -> Bool[Tensor, "batch 1 1 slots"] | None:
        """Record the tokens that the caches will hold after this step; returns the mask to read them under."""
        num_seen, num_slots = self.caches[0].num_seen, self.ids.shape[1]
        if num_seen >= num_slots < self.max_length:
            raise InputError(f"the caches hold {num_seen} tokens, prompt included: start with more max_new_tokens")
        slot = num_seen % num_slots
        self.ids.select(1, slot).copy_(ids)
        if self.valid is None:
            return None
        self.valid[:, slot] = True
        return padding_mask(self.valid[:, : min(num_seen + 1, num_slots)])

    def last_half(self, ids: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor | None]:
        """The context to start again from when `ids` no longer fit: full rows keep their newer half, others all."""
        num_slots = self.ids.shape[1]
        valid = torch.ones_like(self.ids, dtype=torch.bool) if self.valid is None else self.valid.clone()
        full = valid.all(dim=1)
        valid[full, : num_slots - max(0, num_slots // 2 - 1)] = False
        return left_padded(
            torch.cat([self.ids, ids[:, None]], dim=1), torch.cat([valid, torch.ones_like(valid[:, :1])], dim=1)
        )

    def select(self, rows: Int[Tensor, " rows"]) -> "GPTState":
        """The state of these rows, repeated or left out at will."""
        selected = copy.copy(self)
        selected.graph = StepGraph()
        selected.caches = [cache.select(rows) for cache in self.caches]
        selected.position_ids = self.position_ids if len(self.position_ids) == 1 else self.position_ids[rows]
        selected.ids = self.ids[rows]
        selected.valid = None if self.valid is None else self.valid[rows]
        return selected
