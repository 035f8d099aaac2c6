"""An idea beside its rivals: the same data, the same budget, the same seeds, one table.

Every application calls `contest`. Each rival and seed has a run folder of its own inside the application's, so that an
interrupted contest resumes in the rival where it stopped.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from torch import Tensor

from minitransformer.checks import Count, Range
from minitransformer.models import Model
from minitransformer.optim import adamw
from train.engine.console import table
from train.engine.loop import train
from train.engine.processes import Processes
from train.engine.results import finish, finished, part_id, run_figures
from train.engine.run_folder import create_run
from train.engine.settings import LearningRate, Precision, Settings, seeds_of
from train.engine.training_data import Rows, TrainingData

Size = Annotated[int, Range(more_than=0, at_most=4096)]
"""A width or a number of parts of a model: with more, a step takes minutes."""
Many = Annotated[int, Range(more_than=0, at_most=1_000_000)]
"""A number of examples to make, or of steps of a part."""
Figures = Mapping[str, float]
Split = Mapping[str, Tensor]
"""The rows of one split, column by column."""


@dataclass(frozen=True)
class ApplicationSettings(Settings):
    """The flags of every application. Each names a `settings_file` of its own, by which its run folders are known."""

    precision: Precision = "fp32"
    """auto is bf16 where the hardware multiplies it faster than fp32; these models are too small to gain by it."""
    seeds: str | None = None
    """Train with each of these seeds ("0,1,2,3,4") and show means and spreads. Default: --seed alone."""
    lr: LearningRate = 1e-3
    """Peak learning rate."""
    batch_size: Count = 64
    evaluations: Count = 5
    """Evaluations on validation data, evenly over the run; the best one's weights are kept."""

    def validate(self) -> None:
        super().validate()
        if self.seeds is not None:
            self.refuse_idle("beside --seeds", "seed")
            seeds_of(self.seeds)

    def all_seeds(self) -> list[int]:
        return [self.seed] if self.seeds is None else seeds_of(self.seeds)


@torch.inference_mode()
def mean_loss(model: Model, rows: Split) -> float:
    """The loss of a model with one term, per target, over all rows at once."""
    [loss] = model.eval().loss({name: tensor.to(model.device) for name, tensor in rows.items()}).values()
    return (loss.total / loss.count).item()


def parameters_of(make: Callable[[], Model]) -> int:
    """How many parameters a model would have, without memory for them."""
    with torch.device("meta"):
        return make().num_parameters()


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What is compared. `rivals` make new models by name, the idea first. `data` has the splits "train", "validation"
    and "test".

    `evaluate` gives a model's figures on a split, with a "loss". The weights kept are the ones with the highest `best`
    on validation data, then the lowest loss. `test` scores each model once on the test split: by default with the
    figures of `evaluate` but for the loss. `draw` makes the picture of the models of the first seed. `others` are rows
    of the table that need no training.
    """

    rivals: Mapping[str, Callable[[], Model]]
    data: Mapping[str, Split]
    evaluate: Callable[[Any, Any], Figures]
    best: str | None = None
    test: Callable[[Any, Any], Figures] | None = None
    draw: Callable[[Any, Any, Path], object]
    steps: int
    """Of each rival, unless --steps or --minutes say otherwise."""
    warmup_steps: int = 50
    unit: str
    """What `count_targets` counts, for the speed."""
    batches: Callable[[Split, int, int], TrainingData] = Rows
    others: Mapping[str, Figures] = field(default_factory=dict)

    def run(self, settings: ApplicationSettings, folder: Path, console: Console) -> None:
        """Train and score all rivals; print the table; write `results.json` and `picture.png` into `folder`."""
        create_run(folder, settings)
        seeds = settings.all_seeds()
        console.print(f"{len(self.rivals)} rivals, seeds {', '.join(map(str, seeds))}; writes {folder}")
        reports: dict[str, dict[str, Any]] = {name: {} for name in self.rivals}
        for seed in seeds:
            for name in self.rivals:
                reports[name][str(seed)] = self._train_one(name, seed, settings, folder, console)
        if not Processes.current().is_rank_0:
            return
        models = {name: type(make()).load(self._folder(folder, name, seeds[0])) for name, make in self.rivals.items()}
        self.draw(models, self.data["test"], folder / "picture.png")
        rows = {name: summary(by_seed) for name, by_seed in reports.items()}
        rows |= {name: {"test": dict(figures), "spread": None} for name, figures in self.others.items()}
        finish(folder, {"seeds": seeds, "rows": rows}, settings.run_id)
        console.print(results_table(rows, seeds))
        console.print(f"results, models and picture.png are in {folder}")

    def _train_one(
        self, name: str, seed: int, settings: ApplicationSettings, folder: Path, console: Console
    ) -> dict[str, Any]:
        """The report of one rival. One that was scored before the run was interrupted keeps its report."""
        place = self._folder(folder, name, seed)
        run_id = part_id(settings.run_id, place)
        if (report := finished(place, run_id)) is not None:
            return report
        torch.manual_seed(seed)
        model = self.rivals[name]().to(settings.torch_device())
        settings.set_threads(model.num_parameters())
        limited = settings.steps is not None or settings.minutes is not None
        options = settings.loop_options(
            lr=settings.lr,
            steps=settings.steps if limited else self.steps,
            evaluations=settings.evaluations,
            accumulate=settings.processes,
            run_id=run_id,
            unit=self.unit,
            warmup_steps=self.warmup_steps,
        )
        state = train(
            model,
            adamw(model, lr=settings.lr),
            self.batches(self.data["train"], settings.batch_size, seed),
            options,
            place,
            evaluate=lambda model: self.evaluate(model, self.data["validation"]),
            score=self._score,
            console=console,
            name=place.name,
        )
        if not Processes.current().is_rank_0:
            return {}
        model.save(place)
        figures = run_figures(model.num_parameters(), state, unit=self.unit)
        report = {"test": self._tested(model), **figures, "validation": state.history}
        finish(place, report, run_id)
        return report

    def _score(self, figures: Figures) -> Sequence[float]:
        return (-figures["loss"],) if self.best is None else (figures[self.best], -figures["loss"])

    def _tested(self, model: Model) -> dict[str, float]:
        if self.test is not None:
            return dict(self.test(model, self.data["test"]))
        return {name: value for name, value in self.evaluate(model, self.data["test"]).items() if name != "loss"}

    @staticmethod
    def _folder(folder: Path, name: str, seed: int) -> Path:
        return folder / f"{name.replace(' ', '-')}-seed-{seed}"


def summary(by_seed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; the spread is the sample standard deviation, None for a single seed."""
    reports = list(by_seed.values())
    columns = {name: [report["test"][name] for report in reports] for name in reports[0]["test"]}
    return {
        "test": {name: statistics.mean(values) for name, values in columns.items()},
        "spread": {name: statistics.stdev(values) for name, values in columns.items()} if len(reports) > 1 else None,
        "parameters": reports[0]["parameters"],
        "steps": statistics.mean(report["steps"] for report in reports),
        "seconds": statistics.mean(report["seconds"] for report in reports),
        "by_seed": by_seed,
    }


def results_table(rows: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> Any:
    names = list(dict.fromkeys(name for row in rows.values() for name in row["test"]))

    def shown(row: Mapping[str, Any], name: str) -> str:
        if name not in row["test"]:
            return ""
        spread = f" ± {row['spread'][name]:.4f}" if row["spread"] else ""
        return f"{row['test'][name]:.4f}{spread}"

    lines = [
        (name, *(shown(row, figure) for figure in names), f"{row['parameters']:,}" if "parameters" in row else "")
        for name, row in rows.items()
    ]
    title = f"test split, seed {seeds[0]}" if len(seeds) == 1 else f"test split, {len(seeds)} seeds, mean ± spread"
    return table(title, ("", *names, "parameters"), lines)
