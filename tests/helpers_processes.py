"""Several processes in a test: forks of the one that runs it, which meet over gloo."""

import multiprocessing
import tempfile
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

from train.engine.processes import Processes


def together(world_size, function):
    """What `function` returns in each of so many processes, by rank. Tensors and plain values can come back."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=_work, args=(Path(folder), rank, world_size, function)) for rank in range(world_size)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(600)  # far more than it takes, on however busy a machine
            if worker.is_alive():
                worker.kill()
        results = [torch.load(path) for path in sorted(Path(folder).glob("result-*"))]
        errors = [path.read_text() for path in sorted(Path(folder).glob("error-*"))]
        assert not errors, "\n".join(errors)
        assert len(results) == world_size, [worker.exitcode for worker in workers]
    return results


def _work(folder, rank, world_size, function):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    try:
        torch.save(function(Processes.current()), folder / f"result-{rank}")
    except BaseException:
        (folder / f"error-{rank}").write_text(f"process {rank} of {world_size}\n{traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()
