import csv
import importlib.util
import json

import pytest
from helpers_scripts import refused

from minitransformer.data import load
from minitransformer.data.dates import locale_of
from train import compare_dates
from train.compare_dates import first_of_each, known_to_dateparser, read_date
from train.translate import __main__ as translate

LOCALES = "de,yo,en"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on dates in three locales, of which dateparser does not know one."""
    folder = tmp_path_factory.mktemp("runs") / "locales"
    with pytest.MonkeyPatch.context() as patch:
        small = lambda *args, **options: load(*args, **options, count=400)  # noqa: E731
        patch.setattr(translate, "load", small)
        patch.setattr(compare_dates, "load", small)
        arguments = ["--data", "dates", "--locales", LOCALES, "--models", "transformer", "--steps", "2"]
        translate.main([*arguments, "--out", str(folder), "--device", "cpu"])
        compare_dates.main(["--run", str(folder), "--pairs", "3"])
    return folder


def test_a_run_in_several_locales_reports_each(run):
    report = json.loads((run / "results.json").read_text())["models"]["transformer"]
    test = load("dates", locales=LOCALES, count=400)["test"]
    counts = {name: row["count"] for name, row in report["by_locale"].items()}
    assert counts == {name: [locale_of(f) for f in test["format"]].count(name) for name in LOCALES.split(",")}
    with (run / "by_locale.csv").open(newline="") as file:
        assert [row["locale"] for row in csv.DictReader(file)] == ["de", "en", "yo"]


def test_dateparser_reads_the_same_strings_as_the_model(run):
    results = json.loads((run / "dateparser.json").read_text())
    assert (results["pairs"], results["locales"]) == (9, 3)
    assert list(results["readers"]) == ["dateparser", "dateparser, told", "transformer"]
    for report in results["readers"].values():
        assert [row["count"] for row in report["by_locale"].values()] == [3, 3, 3]
    told = results["readers"]["dateparser, told"]
    assert told["by_locale"]["en"]["exact_match"] >= 2 / 3
    assert told["by_locale"]["de"]["exact_match"] == 1
    assert results["readers"]["transformer"]["exact_match"] < told["exact_match"]
    assert (run / "dateparser.csv").read_text().startswith('locale,pairs,dateparser,"dateparser, told",transformer')


def test_dateparser_reads_dates_of_a_known_locale():
    assert read_date("8. september 2013") == "2013-09-08"
    assert read_date("8 listopada 2013", "pl") == "2013-11-08"
    assert read_date("8. listopada 2013.", "hr") == "2013-10-08"
    assert read_date("no date") == ""


def test_a_locale_is_told_by_its_own_name_or_its_languages():
    assert known_to_dateparser("fr_CA") == {"locales": ["fr-CA"]}
    assert known_to_dateparser("fr") == {"languages": ["fr"]}
    assert known_to_dateparser("sr_Cyrl_ME") in ({"locales": ["sr-Cyrl-ME"]}, {"languages": ["sr-Cyrl"]})
    assert known_to_dateparser("tlh") is None


def test_the_first_rows_of_each_group():
    assert first_of_each(["b", "a", "b", "b", "a", "c"], 2) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "0"], "--pairs 0 must be at least 1"),
        (["--run", "nowhere"], "nowhere is no run of train.translate"),
    ],
)
def test_what_cannot_be_compared_is_refused(run, capsys, arguments, message):
    assert message in refused(capsys, ["--run", str(run), *arguments], compare_dates.main)


def test_a_run_without_locales_is_refused(run, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"data": "recall", "locales": None}))
    assert "no run of train.translate --data dates" in refused(capsys, ["--run", str(tmp_path)], compare_dates.main)


def test_without_dateparser_the_way_to_it_is_named(run, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'minitransformer[test]'" in refused(capsys, ["--run", str(run)], compare_dates.main)
