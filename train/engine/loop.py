"""The training loop that every script uses: read `train` from top to bottom.

The run's `State` is all that changes from step to step besides weights, optimizer and random states, so that a
checkpoint of these resumes the run exactly: batches are a function of the epoch, and the position in it is counted.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.learning_rate import learning_rate, set_learning_rate
from minitransformer.models import Model
from minitransformer.optim import clip_gradients
from train.engine.console import TrainingProgress, wide_console
from train.engine.data_parallel import Replica, replicate
from train.engine.freed_memory import keep_freed_memory
from train.engine.loggers import Logger, Loggers
from train.engine.metrics_file import METRICS, NOT_FINITE, SCORES, MetricsFile, record_not_finite
from train.engine.processes import Processes
from train.engine.resuming import Checkpoints
from train.engine.samples import Sample, Samples, sample_lines
from train.engine.settings import LoopOptions
from train.engine.signals import TrainingInterrupted, stop_requests
from train.engine.state import State, rank, require_scores
from train.engine.stretches import current_stretch, stretches_of
from train.engine.training_data import Batch, TrainingData, batches_from

M = TypeVar("M", bound=Model)
SIGPIPE = 13
"""The signal of a closed pipe, which Windows has no name for."""


def lowest_loss(result: Mapping[str, Any]) -> Sequence[float]:
    """The `score` by which the evaluation with the lowest loss is the best."""
    return (-result["loss"],)


def train(
    model: M,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    options: LoopOptions,
    folder: Path,
    *,
    evaluate: Callable[[M], Mapping[str, float]],
    score: Callable[[Mapping[str, float]], Sequence[float]] = lowest_loss,
    samples: Callable[[M], Sequence[Sample]] | None = None,
    loggers: Sequence[Logger] = (),
    console: Console | None = None,
    name: str = "training",
) -> State:
    """Train `model` and leave it with the weights that had the highest `score` of `evaluate` on validation data.

    `evaluate` returns figures by name, such as {"loss": 2.3}; the model that it gets is in evaluation mode. Scores are
    compared as tuples. Without a `console`, progress is printed to standard output: a bar on a terminal, else lines.

    `samples` returns texts that the model writes, to be shown and kept at each evaluation. `loggers` get all figures
    and samples, besides those that `options.log` names.

    Resumes from the newest checkpoint in `folder/checkpoints` if there is one; writes checkpoints and `metrics.jsonl`.
    Raises `TrainingInterrupted` after Ctrl-C or SIGTERM, with a checkpoint written. Where `torchrun` started several
    processes, all of them call it and train one model; rank 0 evaluates and writes. A finished run takes no further
    step, unless `options` are of a new stretch.
    """
    keep_freed_memory()
    console = console or wide_console()
    processes = Processes.current()
    fixed_shapes = getattr(data, "fixed_shapes", False)
    how: dict[str, bool] = {"fsdp": options.fsdp, "compile": options.compile, "fixed_shapes": fixed_shapes}
    replica = replicate(model, optimizer, processes, **how)
    if replica.summary:
        console.print(f"{name}: {replica.summary}")
    checkpoints = Checkpoints(folder / "checkpoints", options, keep_evaluated=options.keep_evaluated)
    state = checkpoints.resume(replica.model, optimizer) or State(run_id=options.run_id)
    require_scores(state, score, checkpoints.folder)
    stretches = stretches_of(folder, options, state)
    metrics = MetricsFile(folder / METRICS if processes.is_rank_0 else None)
    metrics.resume(state.step, len(state.history), state.metrics, from_step=stretches[-1].from_step)
    watched = Samples(samples, folder)
    processes.on_rank_0(lambda: watched.resume(state.step))
    logged = Loggers.of(options.log, folder, loggers) if processes.is_rank_0 else Loggers()

    def evaluation() -> tuple[dict[str, float], list[Sample]]:
        with replica.evaluated() as whole:
            return processes.on_rank_0(lambda: (dict(evaluate(whole)), watched.of(whole)))

    if state.step == 0 and options.starts_trained:
        state.start, _ = evaluation()
    if len(stretches) > 1:
        console.print(f"{name}: stretch {len(stretches)} of the run, from step {stretches[-1].from_step:,}")
    options = current_stretch(stretches, state)
    batches = batches_from(data, state)
    replica.model.train()
    with TrainingProgress(name, console) as progress, stop_requests() as stop_requested:
        while not state.finished:
            began = time.perf_counter()
            lr = learning_rate(
                options.schedule,
                options.lr,
                step=state.step + 1,
                progress=options.progress(state),
                warmup_steps=options.warmup_steps,
                final=options.final_lr,
            )
            set_learning_rate(optimizer, lr)
            rows = processes.share([next(batches) for _ in range(options.accumulate)])
            group = [to_device(data.batch(batch), replica.model.device) for batch in rows]
            loss, tokens = accumulate_gradients(replica, group, options)
            norm = clip_gradients(replica.model.parameters(), options.clip)
            state.step += 1
            state.tokens += tokens
            if math.isfinite(loss) and math.isfinite(norm):
                optimizer.step()
            else:
                state.skipped += 1
                wrong: dict[str, Any] = {"loss": loss, "gradient_norm": norm, "lr": lr}
                wrong |= {"epoch": state.epoch, "rows": [batch for part in processes.gather(rows) for batch in part]}
                with replica.evaluated() as whole:
                    record = partial(record_not_finite, folder, whole, step=state.step, **wrong)
                    file = processes.on_rank_0(record)
                if state.skipped > options.skip_not_finite:
                    raise InputError(
                        f"{name}: loss={loss}, gradient norm={norm} at step {state.step}, whose batch is in {file}: "
                        f"lower the rate, or skip {state.skipped} such steps or more with --skip-not-finite"
                    )
            optimizer.zero_grad()
            [state.seconds] = processes.largest(state.seconds + time.perf_counter() - began)

            done = options.progress(state)
            speed = state.tokens / state.seconds
            left = (state.seconds - options.from_seconds) * (1 - done) / done
            text = f"step {state.step}  loss {loss:.4f}  {speed:,.0f} {options.unit}/s{state.best_so_far()}"
            progress.update(done, text, left)
            figures = {"loss": loss, "lr": lr, "gradient_norm": norm, f"{options.unit}_per_second": speed}
            metrics.write(state.place(), **figures)
            logged.log(state.step, **figures)
            if done >= (state.evaluations + 1) / options.evaluations or done >= 1.0:
                result, written = evaluation()
                state.evaluations = int(done * options.evaluations)
                state.history.append({"step": state.step, "seconds": state.seconds, **result})
                metrics.write_scores(state.place(), result)
                logged.log(state.step, **{f"{SCORES}{key}": value for key, value in result.items()})
                better = state.best_score is None or rank(score(result)) > state.best_score
                if better:
                    state.best_score, state.best_step = rank(score(result)), state.step
                if better or options.keep_evaluated:
                    checkpoints.save_weights(replica.model, state.step)
                scores = "  ".join(f"{key} {value:.4f}" for key, value in result.items())
                best = "  best so far" if better else state.best_so_far()
                progress.note(f"{name}: step {state.step}, {state.seconds:.0f} s: {scores}{best}")
                metrics.flush()
                if written and processes.is_rank_0:
                    watched.write(state.place(), written)
                    logged.log(state.step, samples="\n".join(sample_lines(written)))
                    for line in sample_lines(written):
                        progress.note(line)
                logged.send()
            unheard = SIGPIPE if progress.error else 0
            stop, due = processes.largest(stop_requested() or unheard, checkpoints.due())
            state.finished = done >= 1.0 or options.out_of_patience(state)
            if stop or state.finished or due:
                metrics.flush(to_disk=True)
                state.checkpoint_seconds, state.metrics = checkpoints.spent, metrics.checksum
                checkpoints.save(replica.model, optimizer, dataclasses.asdict(state))
                logged.send()
            if progress.error is not None:
                raise progress.error
            if stop:
                raise TrainingInterrupted(int(stop))
            options = current_stretch(stretches, state)
    state.checkpoint_seconds = checkpoints.spent
    # A run that was killed after its last checkpoint has not done so.
    processes.on_rank_0(lambda: checkpoints.remove_old(kept=[state.best_step]))
    logged.say_failures()
    replica.close()
    checkpoints.load_weights(model, state.best_step)
    require_success(model, state, options, name)
    if state.start and rank(score(state.start)) > (state.best_score or []):
        before = ", ".join(f"{figure} {value:.4f}" for figure, value in state.start.items())
        warnings.warn(
            f"{name}: no evaluation is as good as that of the model that --init names ({before}): lower --lr, or keep "
            "that model",
            stacklevel=2,
        )
    model.eval()
    return state


def require_success(model: Model, state: State, options: LoopOptions, name: str) -> None:
    """A warning counts the steps that were skipped, another says that nothing was learned. `InputError` if all steps
    were skipped, or if no evaluation or not every weight is finite: nothing of such a run is a result."""
    diverged = -math.inf in (state.best_score or ())
    if diverged or not all(parameter.isfinite().all() for parameter in model.parameters()):
        found = "no evaluation gave a finite score" if diverged else "the trained weights are not finite numbers"
        raise InputError(f"{name}: {found}: start another run with a lower --lr")
    if state.step < (options.steps or math.inf) and not options.out_of_patience(state):
        options.warn_of_idle(state.step)
    if state.skipped:
        skipped = f"{name}: {state.skipped:,} of {state.step:,} steps were skipped, for a loss or gradient not finite"
        if state.skipped == state.step:
            raise InputError(f"{skipped}: nothing was learned; see {NOT_FINITE}, and start another run")
        warnings.warn(f"{skipped}: see {NOT_FINITE}", stacklevel=3)
    losses = (entry.get("loss", math.inf) for entry in state.history)
    lowest = min(filter(math.isfinite, losses), default=math.inf)
    chance = math.inf if options.choices is None else math.log(options.choices)
    # A run that ends in its warm-up has learned little, but has not become worse by far.
    if lowest > chance * (0.999 if state.step > options.warmup_steps else 2.0):
        warnings.warn(
            f"{name}: nothing was learned: the lowest validation loss is {lowest:.4g}, and a blind guess among "
            f"{options.choices:,} has {chance:.4g}: lower --lr, or train longer",
            stacklevel=3,
        )


def accumulate_gradients(replica: Replica[Any], group: Sequence[Batch], options: LoopOptions) -> tuple[float, int]:
    """Add up the gradients of the loss over all batches of `group`, of every process, as if they were one batch.

    Each term of the loss is divided by its number of targets in all batches, so that one big batch and many small ones
    give the same gradients. Returns the loss and the number of targets.
    """
    model, processes = replica.model, replica.processes
    counts: dict[str, Tensor] = {}
    for batch in group:
        for term, count in model.count_targets(batch).items():
            counts[term] = counts.get(term, torch.zeros_like(count)) + count
    counts = replica.sum_counts(counts)
    sums = options.loss_reduction == "sum"
    loss = torch.zeros((), device=model.device)
    for left, batch in zip(range(len(group) - 1, -1, -1), group, strict=True):
        with replica.local() if left else nullcontext():
            with autocast(model.device, options.autocast):
                losses = replica.loss(batch)
            parts = [part.total / (1 if sums else counts[term].clamp(min=1)) for term, part in losses.items()]
            objective = torch.stack(parts).sum()
            replica.backward(objective)
        loss += objective.detach()
    replica.settle(counts)
    return processes.sum(loss).item(), int(sum(count.item() for count in counts.values()))


def autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    """Matrix products in `dtype`, softmax, norms and losses in float32; None changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
