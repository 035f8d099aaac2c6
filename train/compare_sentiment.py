"""The comparison of the talk for sequence to vector: five ways to label a text, on one split, with several seeds.

python -m train.compare_sentiment                                   about 50 minutes on 2 cores; can be resumed
python -m train.compare_sentiment --pretrained runs/pretrain-bert-...   with a masked model of an earlier run
python -m train.compare_sentiment --rows rnn-last,rnn-attention --seeds 0
"""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
from rich.console import Console

from minitransformer.checks import Count
from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.errors import InputError
from minitransformer.files import atomic
from train.engine.console import table
from train.engine.processes import Processes
from train.engine.results import finish, finished, part_id
from train.engine.run_folder import create_run, run_job
from train.engine.settings import Minutes, Settings, distinct, seeds_of
from train.finetune.__main__ import finetune
from train.finetune.baselines import baselines
from train.finetune.settings import FinetuneSettings
from train.finetune.starting_model import read_pretrained
from train.pretrain.bert.__main__ import pretrain
from train.pretrain.bert.corpora import read_corpora
from train.pretrain.bert.settings import BERTSettings

SCRATCH, PRETRAINED = Path("scratch"), Path("pretrained")
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn-last": ("RNN, last state", {"init": SCRATCH, "encoder": "rnn", "pooling": "last"}),
    "rnn-attention": ("RNN, attention", {"init": SCRATCH, "encoder": "rnn", "pooling": "attention"}),
    "transformer": ("Transformer from scratch", {"init": SCRATCH, "encoder": "transformer"}),
    "pretrained-here": ("Transformer pretrained here", {"init": PRETRAINED}),
    "minilm": ("MiniLM", {"init": Path("minilm")}),
}
"""The title of each row of the table, and the flags of its runs."""


@dataclass(frozen=True)
class CompareSettings(Settings):
    """Compare recurrent, new and pretrained encoders as classifiers of texts: mean and spread over seeds.

    Each run is one of train.finetune with its own defaults. --minutes and --steps limit each run, and --steps limits
    the pretraining too. --seed is the seed of the pretraining.
    """

    finished_once: ClassVar[tuple[str, ...]] = (str(PRETRAINED),)

    data: str = "reviews"
    """As for train.finetune."""
    text: str | None = None
    """The column of the texts."""
    label: str | None = None
    """The column of the labels."""
    rows: str = ",".join(ROWS)
    """The encoders to train, in this order."""
    seeds: str = "0,1,2"
    """The seeds of the runs of each row."""
    evaluations: Count = 6
    """Evaluations on the validation split, evenly over each run."""
    pretrained: Path | None = None
    """The run of train.pretrain bert that pretrained-here starts from. Default: pretrain on the training texts."""
    pretrain_minutes: Minutes = 4.0
    """The training time of that pretraining."""
    pretrain_data: str = ""
    """Further texts to pretrain on, separated by commas: packaged corpora or paths."""
    pretrain_text: str | None = None
    """The column of those texts. Default: text, sentence, or the only one."""

    def validate(self) -> None:
        super().validate()
        names = self.row_names()
        if unknown := [name for name in names if name not in ROWS]:
            raise InputError(f"--rows {','.join(unknown)}: not among {', '.join(ROWS)}")
        seeds_of(self.seeds)
        if "pretrained-here" not in names:
            where = "without pretrained-here in --rows"
            self.refuse_idle(where, "pretrained", "pretrain_minutes", "pretrain_data", "pretrain_text", "seed")
        if not self.pretrain_data:
            self.refuse_idle("without --pretrain-data", "pretrain_text")
        if self.steps is not None:
            self.refuse_idle("beside --steps", "pretrain_minutes")
        if self.pretrained is not None:
            self.refuse_idle("beside --pretrained", "pretrain_minutes", "pretrain_data", "seed")
            read_pretrained(self.pretrained)

    def row_names(self) -> list[str]:
        return distinct("--rows", self.rows)

    def of_every_run(self) -> dict[str, Any]:
        """The flags that every run takes over."""
        names = ("device", "threads", "precision", "processes")
        return {name: getattr(self, name) for name in names} | self.run_options()


def main(arguments: list[str] | None = None) -> None:
    run_job(CompareSettings, "compare_sentiment", compare, arguments)


def compare(settings: CompareSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train every row with every seed and write the table. Runs that were finished before a resume are kept."""
    processes = Processes.current()
    corpus = processes.local_rank_0_first(
        lambda: load(settings.data, kind="labelled", text=settings.text, label=settings.label)
    )
    if settings.pretrain_data:
        processes.local_rank_0_first(lambda: require_readable(settings))
    test, names = "test" if "test" in corpus else "validation", corpus["train"].features["label"].names
    create_run(folder, settings)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in settings.row_names()}
    for name, runs in rows.items():
        options = dict(ROWS[name][1])
        if options["init"] == PRETRAINED:
            options["init"] = settings.pretrained or pretrain_here(settings, corpus, folder, console)
            processes.barrier()  # rank 0 has saved it
        for seed in seeds_of(settings.seeds):
            console.print(f"\n{name}, seed {seed}", style="bold")
            one = FinetuneSettings(
                data=settings.data,
                text=settings.text,
                label=settings.label,
                seed=seed,
                evaluations=settings.evaluations,
                baselines=False,
                **settings.of_every_run(),
                **options,
            )
            runs.append(once(finetune, one, folder / f"{name}-{seed}", console))
    if not processes.is_rank_0:
        return {}
    results = {
        "data": settings.data,
        "labels": names,
        "scored_on": test,
        "texts": {name: len(split) for name, split in corpus.items()},
        "rows": {name: summary(seeds_of(settings.seeds), runs) for name, runs in rows.items()},
        "baselines": baselines(corpus, test, names),
    }
    title, (columns, *lines) = title_and_lines(results)
    rules = ["---", *["---:"] * (len(columns) - 1)]
    with atomic(folder / "table.md") as temporary:
        in_markdown = "".join(f"| {' | '.join(line)} |\n" for line in (columns, rules, *lines))
        temporary.write_text(f"{title}\n\n{in_markdown}", encoding="utf-8")
    finish(folder, results, settings.run_id)
    console.print(table(title, columns, lines))
    console.print(f"results.json, table.md and every run are in {folder}", highlight=False)
    return results


def require_readable(settings: CompareSettings) -> None:
    """`InputError` before any training if the further texts cannot be read for the pretraining."""
    try:
        read_corpora(settings.pretrain_data, settings.pretrain_text)
    except InputError as error:
        message = str(error).replace("text=", "pretrain_text=").replace("--data", "--pretrain-data")
        raise InputError(message) from error


def once(job: Callable[..., dict[str, Any]], settings: Settings, folder: Path, console: Console) -> dict[str, Any]:
    """The results of the job, which runs unless it was finished before this comparison was interrupted."""
    settings = replace(settings, run_id=part_id(settings.run_id, folder))
    results = finished(folder, settings.run_id)
    return job(settings, folder, console) if results is None else results


def pretrain_here(
    settings: CompareSettings, corpus: Mapping[str, datasets.Dataset], folder: Path, console: Console
) -> Path:
    """Pretrain a masked model on the task's training texts and validate it on the task's validation texts."""
    written = folder / "pretraining-texts"
    Processes.current().on_rank_0(lambda: write_texts(corpus, written, settings.pretrain_text or "text"))
    options = BERTSettings(
        data=",".join(filter(None, [str(written), settings.pretrain_data])),
        text=settings.pretrain_text,
        seed=settings.seed,
        **settings.of_every_run() | {"minutes": None if settings.steps else settings.pretrain_minutes},
    )
    once(pretrain, options, folder / "pretrained", console)
    return folder / "pretrained"


def write_texts(corpus: Mapping[str, datasets.Dataset], folder: Path, column: str) -> None:
    """Write the training and validation texts as a corpus to pretrain on, whose texts have this column."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation"):
        with atomic(folder / f"{split}.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(
                json.dumps({column: text}, ensure_ascii=False) + "\n" for text in texts(corpus[split], "text")
            )


def summary(seeds: list[int], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds. The spread is the sample standard deviation, or None for a single run."""
    kept = ("accuracy", "macro_f1", "validation_accuracy", "seconds")
    means = {key: statistics.mean(run[key] for run in runs) for key in kept}
    spread = statistics.stdev(run["accuracy"] for run in runs) if len(runs) > 1 else None
    by_seed = {str(seed): {key: run[key] for key in kept} for seed, run in zip(seeds, runs, strict=True)}
    return {**means, "spread": spread, "parameters": runs[0]["parameters"], "seeds": by_seed}


def title_and_lines(results: Mapping[str, Any]) -> tuple[str, list[list[str]]]:
    """What the table is of; its columns, and a line for each row and baseline."""
    lines = [["model", "accuracy", "spread", "macro F1", "on validation", "parameters", "training seconds"]]
    for name, row in {**results["rows"], **results["baselines"]}.items():
        scores = [f"{row[score]:.1%}" for score in ("accuracy", "macro_f1", "validation_accuracy")]
        spread, size = "", ["", ""]
        if name in ROWS:
            spread = "one seed" if row["spread"] is None else f"± {row['spread']:.1%}"
            size = [f"{row['parameters']:,}", f"{row['seconds']:.0f}"]
        lines.append([ROWS[name][0] if name in ROWS else name, scores[0], spread, *scores[1:], *size])
    seeds = next(iter(results["rows"].values()))["seeds"]
    title = (
        f"{results['data']}: {results['texts'][results['scored_on']]:,} {results['scored_on']} texts after training on "
        f"{results['texts']['train']:,}; seeds {', '.join(seeds)}"
    )
    return title, lines


if __name__ == "__main__":
    main()
