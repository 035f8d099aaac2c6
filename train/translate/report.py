"""What a comparison shows: tables on the terminal, learning curves and attention maps in the run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import datasets
from rich.console import Console

from minitransformer.untrusted import read_json, shown
from train.engine.results import not_results, read_results, told
from train.engine.typed_json import misfits
from train.translate import report_matches, report_sentences


class Comparison(TypedDict):
    models: dict[str, dict[str, Any]]


def read_comparison(path: Path) -> dict[str, Any]:
    """The results of a finished run of several models; `InputError` where the file holds something else."""
    results = read_results(path, Comparison)
    models = results["models"]
    kind = report_sentences if _holds_bleu(models) else report_matches
    for name, report in models.items():
        if wrong := misfits(report, kind.Report):
            raise not_results(path, f"of {shown(name)} it has " + told(report, wrong))
    if len({kind.groups(report) for report in models.values()}) != 1:
        raise not_results(path, "its models are not of one comparison")
    return results


def read_report(path: Path) -> dict[str, Any]:
    """Those of one model."""
    results = read_json(path)
    of_sentences = isinstance(results, dict) and "bleu" in results
    return read_results(path, report_sentences.Report if of_sentences else report_matches.Report)


def show(models: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The tables of the results by model: what equals its reference, or BLEU where the reports have it."""
    tables = report_sentences.tables if _holds_bleu(models) else report_matches.tables
    for table in tables(models):
        console.print(table)


def draw(models: Mapping[str, Any], test_split: datasets.Dataset, folder: Path) -> None:
    """Learning curves, and the attention of every model over the same test examples, as PNG files."""
    (report_sentences.draw if _holds_bleu(models) else report_matches.draw)(models, test_split, folder)


def _holds_bleu(models: Mapping[str, Mapping[str, Any]]) -> bool:
    return all("bleu" in report for report in models.values())
