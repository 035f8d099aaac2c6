"""`results.json` of a finished run, when it is damaged or another file."""

import copy
import json
from contextlib import suppress

import pytest
from helpers_damage import ODD_NUMBERS, ODD_STRINGS, places
from helpers_scripts import refused
from rich.console import Console

from minitransformer import InputError
from train import compare_dates
from train.translate import report

MATCHES = {"parameters": 9, "exact_match": 0.5, "character_accuracy": 1.0, "seconds_to_99": None, "seconds": 1.0}
MATCHES |= {"tokens_per_second": 9.0, "validation": [{"seconds": 1.0, "exact_match": 0.5}]}
MATCHES |= {"by_format": {"D.M.Y": {"count": 2, "exact_match": 0.5}}}
SENTENCES = {"parameters": 9, "bleu": 1.0, "bleu_lowercase": 1.0, "chrf": 2.0, "beam": 5, "alpha": 0.6, "seconds": 1.0}
SENTENCES |= {
    "signatures": {"BLEU": "x"},
    "tokens_per_second": 9.0,
    "validation": [{"step": 3, "seconds": 1.0, "bleu": 0.5}],
}
SENTENCES |= {"best_step": 3, "by_length": [{"words": "1-2", "count": 2, "bleu": 0.5}], "by_rarest_word": []}

quiet = Console(quiet=True)


def show_models(results):
    report.show(results["models"], quiet)


KINDS = {
    "dates": (
        {"models": {"a": MATCHES, "b": MATCHES}},
        report.read_comparison,
        lambda r: report.show(r["models"], quiet),
    ),
    "sentences": ({"models": {"a": SENTENCES}}, report.read_comparison, lambda r: report.show(r["models"], quiet)),
}


def put(value, where, new):
    """A copy with `new`, or without (...), what is in this place."""
    if not where:
        return new
    value = copy.deepcopy(value)
    holder = value
    for key in where[:-1]:
        holder = holder[key]
    if new is ...:
        del holder[where[-1]]
    else:
        holder[where[-1]] = new
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_stands_in_results_they_are_shown_or_refused(kind, tmp_path):
    valid, read, show = KINDS[kind]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(valid))
    show(read(path))
    odd = [..., None, True, "a", {}, [], [1], {"a": 1}, 10**400, *ODD_NUMBERS[-3:], ODD_STRINGS[-1]]
    for of_model in valid.get("models", {}).values():
        for key in ("bleu", "by_format", "by_locale", "by_length", "validation"):  # of the other kind
            path.write_text(json.dumps({"models": {"a": of_model | {key: 5}}}))
            with suppress(InputError):
                show(read(path))
    refusals = 0
    for where in places(valid):
        for new in odd if where else odd[1:]:
            path.write_text(json.dumps(put(valid, where, new)))
            try:
                results = read(path)
            except InputError as error:
                assert str(path) in str(error)
                refusals += 1
            else:
                show(results)
    assert refusals > 100


@pytest.mark.parametrize("content", ["{", "[]", '{"data": "dates", "locales": 3}', "[" * 100_000])
def test_damaged_settings_of_a_run_in_a_comparison_are_one_line(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    assert str(tmp_path) in refused(capsys, ["--run", str(tmp_path)], compare_dates.main)


@pytest.mark.parametrize("content", ["{", "[]", '{"bleu": 1}', "3"])
def test_damaged_results_of_one_of_several_models_are_refused(content, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InputError, match="results"):
        report.read_report(path)
