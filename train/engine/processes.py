"""Several processes, started by `torchrun`, that train one model together; a script that runs alone is one of one.

    torchrun --nproc-per-node 2 -m train.pretrain gpt

A step's batches are dealt out one by one, and the processes agree on whatever decides how a run goes on. So their
number changes how fast it goes and, but for rounding, nothing else.
"""

import hashlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from minitransformer.errors import InputError

T = TypeVar("T")
# The others wait for as long while the first process evaluates or writes; one that dies is noticed at once.
LONGEST_WAIT = timedelta(hours=12)
LETTING_GO = 0.1
"""Seconds, of which a busy machine needs a hundredth."""


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is. Every method but `share` has to be called by all of them."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Those that met in `joined`, or this one alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_rank_0(self) -> bool:
        """The one that evaluates, writes and speaks."""
        return self.rank == 0

    def share(self, batches: Sequence[T]) -> list[T]:
        """This process's part of what makes a step: as many as each other's, none in two of them, none left out."""
        if len(batches) % self.world_size:
            divisors = [n for n in range(1, len(batches) + 1) if len(batches) % n == 0]
            raise InputError(
                f"a step of this run takes {len(batches)} batches, which {self.world_size} processes cannot share "
                f"evenly: go on with {', '.join(map(str, divisors[:-1]))}{' or ' if divisors[:-1] else ''}"
                f"{divisors[-1]}"
            )
        return list(batches[self.rank :: self.world_size])

    def sum(self, tensor: Tensor) -> Tensor:
        if self.world_size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def largest(self, *numbers: float | int) -> list[float | int]:
        """Of each number the largest in any process: what they have to agree on before any of them acts on it."""
        if self.world_size == 1:
            return list(numbers)
        largest = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def gather(self, value: T) -> list[T]:
        """Everybody's value, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def on_rank_0(self, function: Callable[[], T]) -> T:
        """What `function` returns in the first process, the only one that calls it. The others wait, so that whatever
        it writes is there when they go on; where it fails for the user's doing, they leave without a word."""
        if self.world_size == 1:
            return function()
        answer: list[Any] = [None, None]
        if self.is_rank_0:
            try:
                answer[0] = function()
            except (InputError, OSError, SystemExit) as error:
                dist.broadcast_object_list([None, error.code if isinstance(error, SystemExit) else 2])
                raise
        dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise SystemExit(answer[1])
        return answer[0]

    def local_rank_0_first(self, function: Callable[[], T]) -> T:
        """What `function` returns, called in one process of each machine and then in the others, which find on the disk
        what it has left there. Where it fails for the user's doing, they leave without a word."""
        first = int(os.environ["LOCAL_RANK"]) == 0 if launched() else self.is_rank_0
        answer, error = None, None
        if first:
            try:
                answer = function()
            except (InputError, OSError) as raised:
                error = raised
        if any(self.gather(error is not None)):
            raise error or SystemExit(2)
        return answer if first else function()  # type: ignore[return-value]

    def barrier(self) -> None:
        self.on_rank_0(lambda: None)


def not_shared(folder: Path) -> InputError:
    return InputError(f"{folder} is not the same for all processes: it has to lie where all of them reach it")


@contextmanager
def joined() -> Iterator[Processes]:
    """Meet the other processes, if `torchrun` started this one, and part from them at the end.

    Collectives on a CPU go through gloo, those on a GPU, the one of LOCAL_RANK, through NCCL. Standard output and
    warnings are left to the first process, and what several would say of an error to one of them.
    """
    if not launched():
        yield Processes()
        return
    local_rank, has_nccl = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available() and dist.is_nccl_available()
    if local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=LONGEST_WAIT))
    # torchrun's store outlives a restart, with the addresses of processes that are gone.
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_nccl else "gloo",
        store=dist.PrefixStore("training", store),
        rank=rank,
        world_size=world_size,
        timeout=LONGEST_WAIT,
    )
    processes = Processes.current()
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(sys.stdout if processes.is_rank_0 else nowhere):
            with warnings.catch_warnings():
                if not processes.is_rank_0:
                    warnings.simplefilter("ignore")
                yield processes
            processes.barrier()
    except (InputError, OSError) as error:
        if not _says_it_first(str(error), store):
            raise SystemExit(2) from None
        raise
    except RuntimeError:
        if _is_refused(store):  # the process that was waited for has said why, and left
            raise SystemExit(2) from None
        raise
    finally:
        # After an exchange a thread of gloo's, which outlives the group under DDP, still needs the interpreter, to let
        # go of tensors: it would abort a process whose interpreter is ending.
        time.sleep(LETTING_GO)
        dist.destroy_process_group()


def _says_it_first(message: str, store: dist.Store) -> bool:
    """Whether no other process has said it."""
    try:
        store.set("refused", "yes")
        return store.add(f"said {hashlib.sha256(message.encode(errors='replace')).hexdigest()}", 1) == 1
    except RuntimeError:  # the process that kept the store is gone
        return True


def _is_refused(store: dist.Store) -> bool:
    try:
        return store.check(["refused"])
    except RuntimeError:
        return False


def launched() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def local_world_size() -> int:
    """Processes of this run on this machine, which share its cores."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


def check_device(device: torch.device) -> None:
    """`InputError` for a device on which several processes cannot meet."""
    if device.type == "cuda" and local_world_size() > torch.cuda.device_count():
        raise InputError(
            f"{local_world_size()} processes and {torch.cuda.device_count()} GPUs on this machine: start one for each "
            "GPU with --nproc-per-node, or train on the CPU with --device cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"several processes train on cpu or cuda, not on {device.type}: give --device cpu")
