import importlib.util
import json
import shutil

import pytest
from helpers_scripts import refused

from minitransformer.data import load
from train import compare_dates
from train.compare_dates import known_to_dateparser, read_date


def test_dateparser_reads_the_same_strings_as_the_model(run, tmp_path, monkeypatch, capsys):
    shutil.copytree(run / "transformer", tmp_path / "transformer")
    shutil.copy(run / "config.json", tmp_path)
    monkeypatch.setattr(compare_dates, "load", lambda *args, **options: load(*args, **options, count=400))
    compare_dates.main(["--run", str(tmp_path), "--pairs", "3"])
    # The command has no flag for the limit.
    assert "tokens more than their source (train longer" in capsys.readouterr().err
    results = json.loads((tmp_path / "dateparser.json").read_text())
    assert (results["pairs"], results["locales"]) == (9, 3)
    assert list(results["readers"]) == ["dateparser", "dateparser, told", "transformer"]
    for report in results["readers"].values():
        assert [row["count"] for row in report["by_locale"].values()] == [3, 3, 3]
    told = results["readers"]["dateparser, told"]
    assert told["by_locale"]["en"]["exact_match"] >= 2 / 3
    assert told["by_locale"]["de"]["exact_match"] == 1
    assert results["readers"]["transformer"]["exact_match"] < told["exact_match"]
    assert (
        (tmp_path / "dateparser.csv").read_text().startswith('locale,pairs,dateparser,"dateparser, told",transformer')
    )


def test_dateparser_reads_dates_of_a_known_locale():
    assert read_date("8. september 2013") == "2013-09-08"
    assert read_date("8 listopada 2013", "pl") == "2013-11-08"
    assert read_date("8. listopada 2013.", "hr") == "2013-10-08"
    assert read_date("no date") == ""


def test_a_locale_is_given_by_its_own_name_or_its_language():
    assert known_to_dateparser("fr_CA") == {"locales": ["fr-CA"]}
    assert known_to_dateparser("fr") == {"languages": ["fr"]}
    assert known_to_dateparser("sr_Cyrl_ME") in ({"locales": ["sr-Cyrl-ME"]}, {"languages": ["sr-Cyrl"]})
    assert known_to_dateparser("tlh") is None


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("{}", ["--pairs", "0"], "--pairs 0 must be more than 0"),
        (None, [], "config.json"),
        ('{"data": "recall", "locales": null}', [], "is not a run of train.translate --data dates"),
        ('{"data": "dates", "locales": 3}', [], "is not a run of train.translate --data dates"),
        ("[]", [], "is not a run of train.translate --data dates"),
        ("[" * 100_000, [], "config.json"),
    ],
)
def test_what_cannot_be_compared_is_refused(config, arguments, message, tmp_path, capsys):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert message in refused(capsys, ["--run", str(tmp_path), *arguments], compare_dates.main)


def test_without_dateparser_the_way_to_it_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'minitransformer[test]'" in refused(capsys, ["--run", str(tmp_path)], compare_dates.main)
