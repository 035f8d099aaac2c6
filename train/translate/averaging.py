"""The mean of several evaluations' weights, which often translates better than any of them (Vaswani et al. 2017)."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from minitransformer.models import Model
from minitransformer.models.weights import own_tensors
from train.engine.metrics_file import METRICS, MetricsFile
from train.engine.resuming import Checkpoints
from train.engine.settings import RunOptions
from train.engine.state import State, rank

M = TypeVar("M", bound=Model)


@torch.no_grad()
def average_evaluated(
    model: M,
    folder: Path,
    state: State,
    *,
    count: int,
    of: Literal["best", "last"] = "best",
    evaluate: Callable[[M], Mapping[str, float]],
    score: Callable[[Mapping[str, Any]], Sequence[float]],
) -> list[int]:
    """Average the weights of the `count` best or last evaluations; keep the mean in `model` if it scores better than
    the best evaluation, and return the steps that were averaged. Else `model` keeps its weights, and the list is empty.

    `model` and `state` are as `train` left them, with `keep_evaluated`. The score of the mean is written to
    `metrics.jsonl` in either case. The averaged weights stay on disk, so that a run whose model is lost can average
    again. All other evaluations' weights are deleted. Damaged weights are left out, with a warning.
    """
    best_first = sorted(state.history, key=lambda evaluation: rank(score(evaluation)), reverse=True)
    chosen = best_first[:count] if of == "best" else state.history[-count:]
    if len(chosen) < 2:
        return []
    checkpoints = Checkpoints(folder / "checkpoints", RunOptions(run_id=state.run_id))
    damage = {evaluation["step"]: checkpoints.damage("evaluated", evaluation["step"]) for evaluation in chosen}
    steps = [step for step, error in damage.items() if error is None]
    way_on = "the mean is of the other evaluations" if len(steps) > 1 else "there is no mean, and the best one is kept"
    for error in filter(None, damage.values()):
        warnings.warn(f"{error}: {way_on}", stacklevel=2)
    checkpoints.remove_evaluated(kept=steps)
    if len(steps) < 2:
        return []
    sums = {name: torch.zeros_like(tensor) for name, tensor in own_tensors(model).items()}
    for step in steps:
        checkpoints.load_weights(model, step)
        for name, tensor in own_tensors(model).items():
            sums[name] += tensor
    for name, tensor in own_tensors(model).items():
        tensor.copy_(sums[name] / len(steps))
    result = dict(evaluate(model))
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if not lines or '"averaged"' not in lines[-1]:  # a run killed before it was scored has written it already
        metrics = MetricsFile(path)
        metrics.write_scores(state.place(), result, averaged=steps)
        metrics.flush()
    if rank(score(result)) > rank(score(best_first[0])):
        state.history.append({"step": state.step, "seconds": state.seconds, "averaged": steps, **result})
        return steps
    checkpoints.load_weights(model, state.best_step)
    return []
