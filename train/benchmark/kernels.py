"""What each kernel gains: whole training steps and generations with it, against the same with that kernel off.

Only whole steps count: a kernel that halves the time of a formula gains little if the formula takes 2% of a step.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console

from minitransformer import kernels
from minitransformer.generation import greedy
from train.benchmark.jobs import JOBS, gpt
from train.benchmark.timing import Machine, in_turns, our_loss, ratios, step_of

TRAINING = {
    "dropout": ["finetune", "translate sentences"],
    "fused_attention": ["pretrain gpt", "GPT-2 6 x 384, context 256", "BERT 4 x 128, context 256"],
}
"""The jobs whose steps use each kernel."""


def kernel_gains(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Seconds without a kernel over seconds with it, in turns."""
    rows: list[dict[str, Any]] = []

    def compare(kernel: str, job: str, precision: str, run: Callable[[], Any], repeats: int) -> None:
        def without() -> None:
            with kernels.disabled(kernel):
                run()

        seconds = in_turns({"with": run, "without": without}, rounds=settings.rounds, repeats=repeats)
        gain = ratios(seconds["without"], seconds["with"])["ratio"]
        row = {"kernel": kernel, "job": job, "precision": precision, "gain": gain}
        milliseconds = 1e3 * statistics.median(seconds["with"])
        console.print(f"{kernel}, {job}, {precision}: {row['gain']:.2f} ({milliseconds:.1f} ms)")
        rows.append(row)

    for kernel, names in TRAINING.items():
        for name in names:
            for precision, dtype, _ in machine.precisions():
                torch.manual_seed(0)
                model, batch = JOBS[name].build(), JOBS[name].batch()
                step = step_of(model, our_loss(model), dtype, JOBS[name].optimizer(model, lr=1e-4))
                compare(kernel, name, precision, partial(step, batch), 1 if settings.quick else 10)
    for batch_size in (1, 32):
        model, prompts = gpt().eval(), torch.randint(80, (batch_size, 16))
        with torch.no_grad():  # so that end-of-text is never the likeliest
            model.embedding.weight[89] = -10 * model.embedding.weight[:89].mean(dim=0)
        run = partial(greedy, model, prompts, max_new_tokens=100)
        compare("gpt_step", f"generation 4 x 128, batch {batch_size}", "fp32", run, 1)
    return rows
