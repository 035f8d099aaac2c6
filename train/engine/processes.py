"""Several processes, started by `torchrun`, that train one model together; a script that runs alone has one process.

    torchrun --nproc-per-node 2 -m train.pretrain gpt

A step's batches are dealt out over the processes, and all of them agree on every decision about the run. So their
number changes its speed and, but for rounding, nothing else. Rank 0 evaluates, prints and writes files; under FSDP
every process also writes its own shards of a checkpoint.
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
# The others wait this long while rank 0 evaluates or writes; a process that dies is noticed at once.
LONGEST_WAIT = timedelta(hours=12)
THREADS_END = 0.1
"""Seconds for threads of gloo to end; a busy machine needs a hundredth of it."""


@dataclass(frozen=True)
class Processes:
    """This process's rank among all of the run. All processes have to call each method, except `share`."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """The processes that `joined` connected, or this one alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_rank_0(self) -> bool:
        return self.rank == 0

    def share(self, batches: Sequence[T]) -> list[T]:
        """This process's share of the batches of a step: equally many for each process, every batch in one."""
        if len(batches) % self.world_size:
            divisors = [str(n) for n in range(1, len(batches) + 1) if len(batches) % n == 0]
            possible = " or ".join(filter(None, [", ".join(divisors[:-1]), divisors[-1]]))
            raise InputError(
                f"a step of this run takes {len(batches)} batches, which {self.world_size} processes cannot share "
                f"evenly: resume with {possible}"
            )
        return list(batches[self.rank :: self.world_size])

    def sum(self, tensor: Tensor) -> Tensor:
        if self.world_size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def largest(self, *numbers: float | int) -> list[float | int]:
        """The largest value of each number in any process, for decisions that all have to make alike."""
        if self.world_size == 1:
            return list(numbers)
        largest = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def agreed(self, function: Callable[[], T]) -> T:
        """What `function` returns in this process. If it raises an error of the user's or of the system's in some
        processes, the first of them raises it and all others exit without a message."""
        if self.world_size == 1:
            return function()
        result: Any = None
        error: InputError | OSError | SystemExit | None = None
        try:
            result = function()
        except (InputError, OSError, SystemExit) as raised:
            error = raised
        code = None if error is None else (error.code or 0) if isinstance(error, SystemExit) else 2
        codes = self.gather(code)
        failed = [rank for rank, code in enumerate(codes) if code is not None]
        if failed:
            raise error if error and self.rank == failed[0] else SystemExit(codes[failed[0]])
        return result

    def on_rank_0(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 only and return its result everywhere. The other processes wait, so that they find
        every file that it writes. Errors are those of `agreed`."""
        if self.world_size == 1:
            return function()
        answers: list[Any] = self.gather(self.agreed(function if self.is_rank_0 else lambda: None))
        return answers[0]

    def local_rank_0_first(self, function: Callable[[], T]) -> T:
        """What `function` returns, called in one process of each machine first and then in the others, which find on
        disk what the first left there. If the first call fails, the others do not try."""
        first = int(os.environ["LOCAL_RANK"]) == 0 if launched() else self.is_rank_0
        answer: Any = self.agreed(function if first else lambda: None)
        return answer if first else function()

    def barrier(self) -> None:
        self.gather(None)


def not_shared(folder: Path) -> InputError:
    return InputError(f"{folder} is not the same for all processes: put it where all of them reach it")


@contextmanager
def joined() -> Iterator[Processes]:
    """Connect to the other processes, if `torchrun` started this one, and disconnect at the end.

    Collectives on a CPU go through gloo, those on a GPU, the one of LOCAL_RANK, through NCCL. Only rank 0 prints and
    warns, and an error that several processes meet is printed by one of them.
    """
    if not launched():
        yield Processes()
        return
    local_rank, has_nccl = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available() and dist.is_nccl_available()
    if local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=LONGEST_WAIT))
    # torchrun's store outlives a restart and still has the addresses of the processes before it.
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
        if not _is_first_to_report(str(error), store):
            raise SystemExit(2) from None
        raise
    except RuntimeError:
        if _another_failed(store):  # the process that this one waited for has reported its error and exited
            raise SystemExit(2) from None
        raise
    finally:
        # A thread of gloo's, which outlives the group under DDP, still needs the interpreter to free its tensors; it
        # would abort a process whose interpreter is ending.
        time.sleep(THREADS_END)
        dist.destroy_process_group()


def _is_first_to_report(message: str, store: dist.Store) -> bool:
    try:
        store.set("refused", "yes")
        return store.add(f"said {hashlib.sha256(message.encode(errors='replace')).hexdigest()}", 1) == 1
    except RuntimeError:  # the process that kept the store has ended
        return True


def _another_failed(store: dist.Store) -> bool:
    try:
        return store.check(["refused"])
    except RuntimeError:
        return False


def launched() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def local_world_size() -> int:
    """The number of processes of this run on this machine, which share its cores."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


def check_device(device: torch.device) -> None:
    """`InputError` for a device on which several processes cannot train together."""
    if device.type == "cuda" and local_world_size() > torch.cuda.device_count():
        raise InputError(
            f"{local_world_size()} processes and {torch.cuda.device_count()} GPUs on this machine: start one for each "
            "GPU with --nproc-per-node, or train on the CPU with --device cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"several processes train on cpu or cuda, not on {device.type}: give --device cpu")
