"""The README.md of a run folder and of each model in it: trained on what, how good it is, and how it is used."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minitransformer.checks import flag_name
from minitransformer.model_card import CARD, IN_FOLDER, fenced, write_card
from minitransformer.untrusted import read_json
from train.engine.fingerprint import DATA_KEY
from train.engine.flags_file import flags_of
from train.engine.results import RESULTS
from train.engine.settings import Settings

USES = {
    "GPT": ("text-generation", "Completer", '"To be", max_new_tokens=50'),
    "BERT": ("fill-mask", "MaskFiller", '"a text with a gap, which the tokenizer spells [MASK] or <mask>"'),
    "SequenceClassifier": ("text-classification", "Classifier", '"a text"'),
    "Transformer": ("translation", "Translator", '"a text"'),
    "RNNSeq2Seq": ("translation", "Translator", '"a text"'),
}
"""The hub's name of the task, our pipeline, and the arguments of a call of it, by the class of the model."""
LANGUAGES = {"shakespeare": ["en"], "reviews": ["en"]}
"""Of packaged corpora. The language of other data is not known, and no licence is: a card leaves them out."""
NOT_FIGURES = {"seed", "alpha", "seconds", "checkpoint_seconds", "seconds_to_99"}
"""Numbers in results that do not say how good a model is, besides counts and speeds."""
OF_SPLITS = "Names that begin with test are of the test split, the others of the validation split."


def write_cards(folder: Path, settings: Settings, job: str, *, missing: bool = False) -> None:
    """Write the cards of a finished run of `train.{job}`, or the `missing` ones; nothing if it has no results."""
    if not (folder / RESULTS).exists():
        return
    data = read_json(folder / settings.settings_file).get(DATA_KEY, {})
    names = settings.data_names()
    facts = [
        "## Data",
        f"`{', '.join(names) or job}`. SHA-256 of files, or what the data follow from:",
        "\n".join(f"- {file}: {checksum}" for file, checksum in data.items()),
        "## Command",
        fenced("bash", "\n".join(commands(settings, job))),
    ]
    languages = LANGUAGES.get(names[0], []) if len(names) == 1 else []
    for place in (folder, *(path.parent for path in sorted(folder.glob("*/model.safetensors")))):
        if missing and (place / CARD).exists():
            continue
        results = read_json(place / RESULTS) if (place / RESULTS).exists() else {}
        kind = read_json(place / "config.json").get("model") if (place / "model.safetensors").exists() else None
        task = USES[kind][0] if kind in USES else None
        header = {"library_name": "minitransformer", "pipeline_tag": task, "language": languages}
        header["tags"] = ["minitransformer", *([] if kind is None else [kind.lower()])]
        sections = [what(kind, results, job), *use(kind), "## Figures", *figures(results), *facts]
        write_card(place, header, place.absolute().name, *sections)


def what(kind: str | None, results: Mapping[str, Any], job: str) -> str:
    if kind is None:
        return f"A run of `train.{job}` of minitransformer. Each model is in a folder of its own."
    size = f" with {results['parameters']:,} parameters" if "parameters" in results else ""
    return f"A `{kind}`{size}, trained by `train.{job}` of minitransformer."


def use(kind: str | None) -> list[str]:
    if kind is None:
        return []
    if kind not in USES:
        return [
            "## Use",
            fenced("python", 'import minitransformer\n\nmodel = minitransformer.load("FOLDER")'),
        ]
    _, pipeline, call = USES[kind]
    lines = [
        f"from minitransformer import {pipeline}",
        "",
        f'model = {pipeline}.load("FOLDER")',
        f"model({call})",
    ]
    return ["## Use", IN_FOLDER, fenced("python", "\n".join(lines))]


def figures(results: Mapping[str, Any]) -> Iterator[str]:
    """The split that the figures are of, and a table of them, with a row for each model of a comparison."""
    models = results.get("models") or results.get("rows")
    reports = models if isinstance(models, dict) else {"": results}
    rows = {name: _numbers(report.get("test", report)) for name, report in reports.items()}
    split = results.get("scored_on") or ("test" if "rows" in results else None)
    yield OF_SPLITS if split is None else f"On the {split} split."
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["model", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    if list(rows) == [""]:
        lines = [["figure", "value"], ["---", "---"], *([name, value] for name, value in rows[""].items())]
    yield "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numbers(report: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: f"{value:.4g}"
        for name, value in report.items()
        if isinstance(value, float) and name not in NOT_FIGURES and not name.endswith("_per_second")
    }


def commands(settings: Settings, job: str) -> Iterator[str]:
    """The command line of a run, from the settings that are not the defaults; of a run that was made longer, one with
    the flags file of each stretch."""
    program = "python" if settings.processes == 1 else f"torchrun --nproc-per-node {settings.processes}"
    program += f" -m train.{job}"
    if settings.stretch == 1:
        yield " ".join([program, *_flags(settings)])
        return
    yield f"{program} --config flags.toml --out RUN"
    for stretch in range(2, settings.stretch + 1):
        yield f"{program} --config flags-{stretch}.toml --resume RUN"


def _flags(settings: Settings) -> Iterator[str]:
    flags = flags_of(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name not in flags or value == field.default:
            continue
        flag = flag_name(field.name)
        if isinstance(value, bool):
            yield flag if value else f"--no{flag[1:]}"
        else:
            yield f"{flag} {shlex.quote(str(value))}"
