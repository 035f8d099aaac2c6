"""One model in each of several processes: whole in every one of them (DDP), or cut into shards (FSDP).

The loop sees a `Replica` either way. Gradients come out as those of one process that had all the batches.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minitransformer.blocks import Stack
from minitransformer.models import BERT, Model
from minitransformer.models.base import Loss
from train.engine.processes import Processes, check_device
from train.engine.shards import unsharded

M = TypeVar("M", bound=Model)


def replicate(
    model: M, optimizer: torch.optim.Optimizer, processes: Processes, *, fsdp: bool = False, compile: bool = False
) -> "Replica[M]":
    """`model` as this process trains it: with DDP or, if `fsdp`, in shards, which `optimizer` then is given in place of
    its parameters. Dropout differs from process to process.

    `compile` has torch.compile make kernels of each block at its first use; models without blocks stay as they are.
    """
    if processes.world_size == 1:
        if fsdp:
            warnings.warn(
                "--fsdp: one process has nobody to share the model with; torchrun starts several", stacklevel=2
            )
        if compile:
            compile_blocks(model)
        return Replica(model, processes)
    check_device(model.device)
    torch.manual_seed(torch.initial_seed() + processes.rank)
    if fsdp:
        return Sharded(model, processes, optimizer, compile=compile)
    if compile:
        compile_blocks(model)
    return Replicated(model, processes)


class Replica(Generic[M]):
    """A model that is alone."""

    summary = ""
    """How it is trained together with others."""

    def __init__(self, model: M, processes: Processes | None = None):
        self.model, self.processes = model, processes or Processes()
        self.terms: list[str] = []

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        return self.model.loss(batch)

    def backward(self, objective: Tensor) -> None:
        objective.backward()

    def local(self) -> AbstractContextManager[Any]:
        """Within, gradients are added up here and not yet exchanged."""
        return nullcontext()

    def sum_counts(self, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The number of targets of each term in all processes."""
        return dict(counts)

    def settle(self, counts: Mapping[str, Tensor]) -> None:
        """All gradients of a step are in: `counts` are its targets."""

    @contextmanager
    def evaluated(self) -> Iterator[M]:
        """The whole model with its present weights, to be used in the first process and not to be changed."""
        self.model.eval()
        yield self.model
        self.model.train()

    def close(self) -> None:
        """Training is over: all of the model's tensors are there again, with any values."""


class LossModule(nn.Module):
    """A model whose forward pass is its loss, which is where DDP and FSDP lend a hand.

    They wait for a gradient of every parameter in every process, but a batch without pairs of sentences has none for
    BERT's `idle` parts. There they are given a gradient of zero.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        losses = self.model.loss(batch)
        if idle := idle_parameters(self.model):
            zero = 0.0 * torch.stack([parameter.sum() for parameter in idle]).sum()
            term, loss = next(iter(losses.items()))
            losses[term] = Loss(loss.total + zero, loss.count)
        return losses


def idle_parameters(model: Model) -> list[nn.Parameter]:
    """What only some batches have a use for."""
    parts = [model.pooler, model.sentence_head] if isinstance(model, BERT) else []
    return [parameter for part in parts if part is not None for parameter in part.parameters()]


class Together(Replica[M]):
    """What DDP and FSDP share: both average gradients, where a sum is wanted of losses divided by global counts."""

    kind: str
    module: Any

    @property
    def summary(self) -> str:  # type: ignore[override]
        device = self.model.device.type
        return f"{self.processes.world_size} processes, {self.kind} over {'NCCL' if device == 'cuda' else 'gloo'}"

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        return self.module(batch)

    def backward(self, objective: Tensor) -> None:
        (objective * self.processes.world_size).backward()

    def sum_counts(self, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A term may be missing here and present elsewhere: names are exchanged whenever somebody meets a new one."""
        device = self.model.device
        while True:
            known = [counts.get(term, torch.tensor(0)).to(device) for term in self.terms]
            news = torch.tensor(len(counts.keys() - set(self.terms)), device=device)
            *totals, news = self.processes.sum(torch.stack([*known, news]))
            if not news:
                return dict(zip(self.terms, totals, strict=True))
            self.terms = sorted({term for terms in self.processes.gather([*self.terms, *counts]) for term in terms})

    def settle(self, counts: Mapping[str, Tensor]) -> None:
        """A part that no process had a use for has no gradient, as in a process that is alone, rather than zeros: the
        optimizer passes it over."""
        idle = idle_parameters(self.model)
        if idle and not counts.get(self.model.config.sentence_head, 0):
            for parameter in idle:
                parameter.grad = None


class Replicated(Together[M]):
    """The model whole in every process; gradients are summed while the backward pass still runs (Li et al. 2020)."""

    kind = "DDP"

    def __init__(self, model: M, processes: Processes):
        super().__init__(model, processes)
        self.module = DistributedDataParallel(LossModule(model), gradient_as_bucket_view=True)

    def local(self) -> AbstractContextManager[Any]:
        return self.module.no_sync()


class Sharded(Together[M]):
    """Each process keeps a part of every weight, its gradient and its optimizer state (Zhao et al. 2023; ZeRO stage 3
    of Rajbhandari et al. 2020). A block's weights are gathered when it runs and dropped after it.

    What is cut up is a twin of the script's model. That one stands empty and is filled where the whole model is used.
    """

    kind = "FSDP"

    def __init__(self, model: M, processes: Processes, optimizer: torch.optim.Optimizer, *, compile: bool):
        # A second to import, and only needed here.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(model.device.type, (processes.world_size,))
        names = {parameter: name for name, parameter in model.named_parameters()}
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        twin = copy.deepcopy(model, shared)
        super().__init__(twin, processes)
        if compile:
            compile_blocks(twin)
        for block in blocks_of_their_own(twin):
            fully_shard(block, mesh=mesh)
        self.module = fully_shard(LossModule(twin), mesh=mesh)
        shards = dict(twin.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [shards[names[parameter]] for parameter in group["params"]]
        self.whole = model
        self._empty()

    @contextmanager
    def local(self) -> Iterator[None]:
        self.module.set_requires_gradient_sync(False)
        yield
        self.module.set_requires_gradient_sync(True)

    @contextmanager
    def evaluated(self) -> Iterator[M]:
        if self.processes.is_rank_0:
            self.close()
        whole = dict(self.whole.named_parameters())
        for name, shard in self.model.named_parameters():
            tensor = unsharded(shard)
            if self.processes.is_rank_0:
                whole[name].data.copy_(tensor)
        self.whole.eval()
        yield self.whole
        self._empty()

    def close(self) -> None:
        for parameter in self.whole.parameters():
            parameter.untyped_storage().resize_(parameter.numel() * parameter.element_size())

    def _empty(self) -> None:
        for parameter in self.whole.parameters():
            parameter.untyped_storage().resize_(0)


def blocks_of_their_own(model: nn.Module) -> list[nn.Module]:
    """Blocks that share no parameter with anything else, so that each can be gathered by itself. What is shared, such
    as ALBERT's blocks or a relative bias, has to be gathered with the rest of the model."""
    places = Counter(parameter for _, parameter in model.named_parameters(remove_duplicate=False))
    blocks = [block for stack in model.modules() if isinstance(stack, Stack) for block in stack.layers]
    return [block for block in blocks if all(places[parameter] == 1 for parameter in block.parameters())]


def compile_blocks(model: nn.Module) -> None:
    """In place, so that tensors keep their names."""
    for stack in model.modules():
        if isinstance(stack, Stack):
            for block in dict.fromkeys(stack.layers):
                block.compile()
