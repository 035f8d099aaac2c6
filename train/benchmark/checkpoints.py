"""What a checkpoint costs: the time to write one of each default job, as a share of the minute between two."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from minitransformer.models import BERT, GPT, BERTConfig, GPTConfig, SequenceClassifier
from minitransformer.optim import adamw, muon
from train.benchmark.measuring import Machine
from train.engine.checkpoints import SECONDS, Checkpoints
from train.pretrain.common import MODERN
from train.translate.recipes import recipe_for


def _translate() -> torch.nn.Module:
    sizes: dict[str, Any] = {"source_vocab_size": 60, "target_vocab_size": 16, "max_length": 30, "joint": False}
    return recipe_for("transformer", "characters", "dates").build(**sizes)


def _gpt() -> torch.nn.Module:
    sizes: dict[str, Any] = {"vocab_size": 90, "max_length": 128, "d_model": 128, "num_heads": 4, "num_layers": 4}
    return GPT(GPTConfig(**sizes, eos_id=0, **MODERN))


def _bert() -> torch.nn.Module:
    ids: dict[str, Any] = {"pad_id": 0, "cls_id": 1, "sep_id": 2, "mask_id": 3}
    sizes: dict[str, Any] = {"vocab_size": 8000, "max_length": 64, "d_model": 128, "num_heads": 4, "num_layers": 4}
    return BERT(BERTConfig(**sizes, **ids, **MODERN, pre_norm=True, sentence_head="nsp"))


def _finetune() -> torch.nn.Module:
    """Of MiniLM's sizes."""
    ids: dict[str, Any] = {"pad_id": 0, "cls_id": 101, "sep_id": 102, "mask_id": 103}
    sizes: dict[str, Any] = {"vocab_size": 30522, "max_length": 512, "d_model": 384, "num_heads": 12, "num_layers": 6}
    heads: dict[str, Any] = {"masked_head": False, "sentence_head": None, "pooler": False}
    return SequenceClassifier(BERT(BERTConfig(**sizes, d_ff=1536, **ids, **heads)), 2)


JOBS: dict[str, tuple[Callable[[], torch.nn.Module], Callable[..., torch.optim.Optimizer]]] = {
    "translate": (_translate, adamw),
    "pretrain gpt": (_gpt, muon),
    "pretrain bert": (_bert, muon),
    "finetune": (_finetune, adamw),
}


def checkpoint_cost(settings: Any, machine: Machine, console: Console) -> dict[str, Any]:
    """Seconds by the clock and of the processor, medians over rounds, for models and optimizers after a step."""
    figures = {}
    for name, (build, optimize) in JOBS.items():
        model = build()
        optimizer = optimize(model, lr=1e-3)
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
            size = max(path.stat().st_size for path in Path(folder).iterdir())
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
            f"minute), of which {work * 1e3:,.0f} ms of the processor ({work / SECONDS:.2%})",
            highlight=False,
        )
    return figures
