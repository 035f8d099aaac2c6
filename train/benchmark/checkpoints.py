"""What a checkpoint costs: the time to write one for each default job, as a share of the minute between two."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from train.benchmark.jobs import JOBS
from train.benchmark.timing import Machine
from train.engine.resuming import SECONDS, Checkpoints


def checkpoint_cost(settings: Any, machine: Machine, console: Console) -> dict[str, Any]:
    """Seconds of wall-clock and of CPU time to save a model and its optimizer after a step: medians over rounds."""
    figures = {}
    for name in ("translate", "pretrain gpt", "pretrain bert", "finetune"):
        model = JOBS[name].build()
        optimizer = JOBS[name].optimizer(model, lr=1e-3)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        with tempfile.TemporaryDirectory(dir=settings.out.parent if settings.out else None) as folder:
            checkpoints = Checkpoints(Path(folder))
            clock, processor = [], []
            for step in range(1, settings.rounds + 1):
                began, worked = time.perf_counter(), time.process_time()
                checkpoints.save(model, optimizer, {"step": step, "best_step": 0})
                clock.append(time.perf_counter() - began)
                processor.append(time.process_time() - worked)
            newest = max(Path(folder).glob("step-*"))
            size = sum(path.stat().st_size for path in newest.iterdir())
        seconds = statistics.median(clock)
        work = statistics.median(processor)
        figures[name] = {
            "bytes": size,
            "seconds": seconds,
            "processor_seconds": work,
            "share_of_a_minute": seconds / SECONDS,
            "processor_share_of_a_minute": work / SECONDS,
        }
        console.print(
            f"checkpoint of {name}: {size / 1e6:,.1f} MB in {seconds * 1e3:,.0f} ms ({seconds / SECONDS:.2%} of a "
            f"minute), {work * 1e3:,.0f} ms of CPU time ({work / SECONDS:.2%})"
        )
    return figures
