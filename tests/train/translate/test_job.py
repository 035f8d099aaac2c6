"""`python -m train.translate` on short strings: what a run leaves, resuming it, and what it refuses."""

import csv
import json
import shutil
from collections import Counter

import pytest
from helpers_scripts import interrupted_at, refused

import minitransformer
from minitransformer.data import load
from minitransformer.data.dates import date_pairs, locale_of
from train.engine.training_data import Feed
from train.translate.__main__ import loop_options, main, prepare
from train.translate.bleu import Bleu
from train.translate.exact_match import ExactMatch
from train.translate.settings import TranslateSettings

pytestmark = pytest.mark.usefixtures("as_users_run_it")
MODELS = ["rnn-location", "rnn-none", "transformer"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A table as the talk's: an index column, then the pair, with other column names than ours."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    rows = [f"{i},{human},{iso}" for i, (human, iso, _) in enumerate(date_pairs(60, seed=3))]
    path.write_text("\n".join([",human,machine", *rows]) + "\n", encoding="utf-8")
    return path


def test_the_run_folder_holds_results_models_and_pictures(run):
    results = json.loads((run / "results.json").read_text())
    assert list(results["models"]) == MODELS
    test = load("dates", locales="de,yo,en", count=400)["test"]
    counts = Counter(locale_of(style) for style in test["format"])
    for name, report in results["models"].items():
        keys = {"exact_match", "character_accuracy", "seconds", "seconds_to_99", "parameters", "tokens_per_second"}
        assert keys <= set(report)
        own = json.loads((run / name / "results.json").read_text())
        assert own.pop("files").keys() > {"config.json", "model.safetensors"}
        assert {key: own[key] for key in report} == report
        assert report["parameters"] == minitransformer.load(run / name).num_parameters()
        assert report["steps"] == 3
        assert {locale: group["count"] for locale, group in report["by_locale"].items()} == counts
        metrics = [json.loads(line) for line in (run / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3]
    for picture in ("learning_curves.png", "attention.png", "heads-transformer.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    with (run / "by_locale.csv").open(newline="") as file:
        assert [row["locale"] for row in csv.DictReader(file)] == ["de", "en", "yo"]


@pytest.mark.parametrize(("locales", "several"), [(None, False), ("de", False), ("en,de", True)])
def test_one_locale_is_trained_for_a_minute_and_several_for_ten(locales, several, monkeypatch):
    monkeypatch.setattr("train.translate.__main__.load", lambda *args, **options: load(*args, **options, count=100))
    for steps, minutes in ((None, 10 if several else 1), (7, None)):
        comparison = prepare(TranslateSettings(locales=locales, steps=steps))
        options = loop_options(comparison.settings.recipes(comparison.preset)["transformer"], comparison)
        assert (options.steps, options.minutes, options.evaluations) == (steps, minutes, 12 if several else 40)
        assert comparison.measure == ExactMatch(by_locale=several)


CHINESE = [(f"第{n}天我们去学校。", f"on day {n} we go to school.") for n in range(60)]


@pytest.mark.parametrize(
    ("pairs", "flags", "preset", "measure", "said"),
    [
        ([(f"the {n} dogs", f"die {n} Hunde") for n in range(60)], {}, "characters", ExactMatch(), "--tokenizer bpe"),
        ([(f"we see {n} dogs", f"wir sehn {n}") for n in range(60)], {}, "tiny", Bleu(), "--tokenizer character"),
        ([(english, chinese) for chinese, english in CHINESE], {}, "tiny", Bleu("zh"), "--tokenizer character"),
        (CHINESE, {"tokenizer": "character"}, "characters", ExactMatch(), None),
        ([(f"dog {n}", f"Hund {n}") for n in range(60)], {"preset": "tiny"}, "tiny", Bleu(), None),
    ],
)
def test_what_the_texts_look_like_chooses_the_measure_and_is_said_with_the_flag_that_changes_it(
    pairs, flags, preset, measure, said, tmp_path
):
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", pairs), ("val", pairs[:3])):
        lines = ["source\ttarget", *("\t".join(row) for row in rows)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    vocab_size = {"vocab_size": 90} if preset == "tiny" else {}
    comparison = prepare(TranslateSettings(data=str(folder), **vocab_size, **flags))
    assert (comparison.preset, comparison.measure) == (preset, measure)
    assert comparison.guess is None if said is None else said in comparison.guess


def test_a_preset_for_other_texts_is_used_and_the_presets_for_these_are_named():
    with pytest.warns(UserWarning, match="--preset tiny is not for .*: characters, dates-15s, dates-of-all-locales$"):
        assert prepare(TranslateSettings(data="dates", preset="tiny")).preset == "tiny"


def test_generated_data_are_short_strings_whatever_the_sizes_of_the_models():
    assert TranslateSettings(preset="tiny").tokenizer_kind == "character"
    assert TranslateSettings(data="recall").tokenizer_kind == "character"
    assert TranslateSettings(preset="tiny", tokenizer="bpe").tokenizer_kind == "bpe"


def test_a_resumed_run_keeps_its_finished_models_and_refuses_damaged_and_moved_ones(
    pairs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(ExactMatch, "draw", lambda *_: None)  # pictures take most of the time of so short a run
    flags = ["--data", str(pairs), "--models", "rnn-none,transformer", "--dropout", "0.1", "--steps", "4"]
    flags += ["--evaluations", "1", "--device", "cpu", "--threads", "1"]
    stopped = tmp_path / "stopped"
    interrupted_at(7, Feed, monkeypatch, main, [*flags, "--out", str(stopped)])  # in the second model
    assert f"--resume {stopped}" in capsys.readouterr().out
    assert not (stopped / "results.json").exists()
    finished, damaged = stopped / "rnn-none" / "results.json", tmp_path / "damaged"
    shutil.copytree(stopped, damaged)
    before = finished.stat().st_mtime_ns
    main(["--resume", str(stopped)])
    assert finished.stat().st_mtime_ns == before
    capsys.readouterr()
    report = damaged / "rnn-none" / "results.json"
    report.write_text("{")
    assert str(report) in refused(capsys, ["--resume", str(damaged)], main)
    (stopped / "results.json").unlink()
    for name, place in (("rnn-none", "other"), ("transformer", "rnn-none"), ("other", "transformer")):
        (stopped / name).rename(stopped / place)
    assert "is of another run: put back what was moved" in refused(capsys, ["--resume", str(stopped)], main)


@pytest.mark.parametrize("target", ["ja", "ja wir sehen sie."])
def test_equal_targets_and_one_held_out_pair_are_scored(target, tmp_path, monkeypatch):
    monkeypatch.setattr(ExactMatch, "draw", lambda *_: None)
    for split, count in (("train", 30), ("val", 1), ("test", 1)):
        rows = ["source\ttarget", *(f"we see {n} dogs\t{target}" for n in range(count))]
        (tmp_path / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    flags = ["--models", "transformer", "--steps", "1", "--evaluations", "1", "--device", "cpu", "--threads", "1"]
    main(["--data", str(tmp_path), *flags, "--out", str(tmp_path / "run")])
    report = json.loads((tmp_path / "run" / "results.json").read_text())["models"]["transformer"]
    assert report["exact_match"] in (0.0, 1.0)
