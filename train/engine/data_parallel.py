"""Data parallelism: several processes train one model, with a copy in each (DDP) or with its weights in shards (FSDP).

The loop sees a `Replica` either way. Gradients equal those of one process that has all the batches.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minitransformer.blocks import Stack
from minitransformer.models import BERT, Model
from minitransformer.models.base import Loss
from train.engine.processes import Processes, check_device

M = TypeVar("M", bound=Model)
COMPILER = "inductor"
"""The backend of torch.compile."""


def replicate(
    model: M,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
    *,
    fsdp: bool = False,
    compile: bool = False,
    fixed_shapes: bool = True,
) -> "Replica[M]":
    """`model` as this process trains it: with DDP or, if `fsdp`, in shards, which then replace the parameters in
    `optimizer`. Dropout differs from process to process.

    `compile`: torch.compile compiles each block at its first use, in place, so that tensors keep their names. Without
    `fixed_shapes` of batches it compiles once for all shapes, where it would do so for one after another.
    """
    if processes.world_size == 1 and not (fsdp and dist.is_initialized()):
        replica = Replica(model, processes)
    else:
        check_device(model.device)
        torch.manual_seed(torch.initial_seed() + processes.rank)
        replica = Sharded(model, processes, optimizer) if fsdp else Replicated(model, processes)
    if compile:
        blocks = dict.fromkeys(blocks_of(replica.model))
        if not blocks:
            warnings.warn(f"--compile has no effect on {type(model).__name__}: it has no blocks", stacklevel=2)
        for block in blocks:
            block.compile(backend=COMPILER, dynamic=None if fixed_shapes else True)
    return replica


class Replica(Generic[M]):
    """The model of a single process."""

    summary = ""
    """How the processes train together, for the user."""

    def __init__(self, model: M, processes: Processes | None = None):
        self.model, self.processes = model, processes or Processes()
        self.terms: list[str] = []

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        return self.model.loss(batch)

    def backward(self, objective: Tensor) -> None:
        objective.backward()

    def local(self) -> AbstractContextManager[Any]:
        """Within the context gradients are added up in this process and not yet exchanged."""
        return nullcontext()

    def sum_counts(self, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The number of targets of each loss term in all processes."""
        return dict(counts)

    def settle(self, counts: Mapping[str, Tensor]) -> None:
        """Called when all gradients of a step are there; `counts` are its targets."""

    @contextmanager
    def evaluated(self) -> Iterator[M]:
        """The whole model with its present weights, in evaluation mode, to be used on rank 0 and not to be changed."""
        self.model.eval()
        yield self.model
        self.model.train()

    def close(self) -> None:
        """Called when training is over: gives the script's model memory for its tensors again, with any values."""


class LossModule(nn.Module):
    """A model whose forward pass is its loss, because DDP and FSDP act on the forward pass.

    They wait for a gradient of every parameter in every process, but a batch without pairs of sentences has none for
    BERT's sentence head and pooler: these get a gradient of zero.
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
    """Parameters that only some batches use."""
    parts = [model.pooler, model.sentence_head] if isinstance(model, BERT) else []
    return [parameter for part in parts if part is not None for parameter in part.parameters()]


class Together(Replica[M]):
    """What DDP and FSDP share. Both average gradients; losses divided by global counts need a sum."""

    kind: str
    module: Any

    @property
    def summary(self) -> str:  # type: ignore[override]
        count, device = self.processes.world_size, self.model.device.type
        backend = "NCCL" if device == "cuda" else "gloo"
        return f"{count} {'process' if count == 1 else 'processes'}, {self.kind} over {backend}"

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        return self.module(batch)

    def backward(self, objective: Tensor) -> None:
        (objective * self.processes.world_size).backward()

    def sum_counts(self, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A term may be missing in this process: names are exchanged whenever a process has a new one."""
        device = self.model.device
        while True:
            known = [counts.get(term, torch.tensor(0)).to(device) for term in self.terms]
            news = torch.tensor(len(counts.keys() - set(self.terms)), device=device)
            *totals, news = self.processes.sum(torch.stack([*known, news]))
            if not news:
                return dict(zip(self.terms, totals, strict=True))
            self.terms = sorted({term for terms in self.processes.gather([*self.terms, *counts]) for term in terms})

    def settle(self, counts: Mapping[str, Tensor]) -> None:
        """A part that no process used gets no gradient rather than zeros, as in a single process: the optimizer skips
        it."""
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

    A twin of the script's model is sharded. The script's model has no memory for its tensors, except where the whole
    model is used.
    """

    kind = "FSDP"

    def __init__(self, model: M, processes: Processes, optimizer: torch.optim.Optimizer):
        # A second to import, and only needed here.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(model.device.type, (processes.world_size,))
        names = {parameter: name for name, parameter in model.named_parameters()}
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        twin = copy.deepcopy(model, shared)
        super().__init__(twin, processes)
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


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return [block for stack in model.modules() if isinstance(stack, Stack) for block in stack.layers]


def blocks_of_their_own(model: nn.Module) -> list[nn.Module]:
    """Blocks that share no parameter with other modules, so that each can be gathered by itself. Shared blocks, such as
    ALBERT's, are gathered with the rest of the model."""
    places = Counter(parameter for _, parameter in model.named_parameters(remove_duplicate=False))
    return [block for block in blocks_of(model) if all(places[parameter] == 1 for parameter in block.parameters())]


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a part of the rows of this tensor."""
    return hasattr(tensor, "full_tensor")


def unsharded(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded. All processes have to call it."""
    return getattr(tensor, "full_tensor", lambda: tensor)()


def own_rows(tensor: Tensor) -> Tensor:
    """The rows that this process holds of a tensor that may be sharded."""
    return getattr(tensor, "to_local", lambda: tensor)()


def sharded_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """This process's rows of a whole `tensor` that every process has, if `pattern` is sharded; else the tensor itself.

    A tensor of another shape, such as an optimizer's count of steps, stays whole.
    """
    tensor = tensor.to(pattern.device)
    if not is_sharded(pattern) or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(pattern, DTensor)
    with torch.no_grad():
        return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None)
