import json
from dataclasses import replace

import pytest
from helpers_scripts import interrupted_at, refused

import minitransformer
from minitransformer.__main__ import main as command
from minitransformer.data import load
from minitransformer.data.dates import date_pairs
from minitransformer.optim import adamw, muon
from minitransformer.pipelines.translator import Translator
from train.engine.feed import Feed
from train.translate.__main__ import Task, main
from train.translate.recipes import CHARACTERS, LOCALES, OPTIMIZERS, PRESETS, RECALL, recipe_for
from train.translate.settings import TranslateSettings

MODELS = ("rnn-location", "rnn-none", "transformer", "talk")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A table as the talk's: an index column, then the pair, under names of their own."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    rows = [f"{i},{human},{iso}" for i, (human, iso, _) in enumerate(date_pairs(60, seed=3))]
    path.write_text("\n".join([",human,machine", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    """A finished run of a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    main(["--data", str(pairs), "--models", ",".join(MODELS), "--steps", "3", "--out", str(folder), "--device", "cpu"])
    return folder


def test_the_run_folder_holds_results_models_and_pictures(run):
    results = json.loads((run / "results.json").read_text())
    assert tuple(results["models"]) == MODELS
    for name, report in results["models"].items():
        assert {
            "exact_match",
            "character_accuracy",
            "seconds",
            "seconds_to_99",
            "parameters",
            "tokens_per_second",
        } <= set(report)
        assert report["parameters"] == minitransformer.load(run / name).num_parameters()
        assert report["steps"] == 3
        assert sum(group["count"] for group in report["by_format"].values()) == 6
        metrics = [json.loads(line) for line in (run / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3]
    for picture in ("learning_curves.png", "attention.png", "heads-transformer.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


def test_default_models_have_66_000_parameters_within_two_percent():
    for name in ("rnn-location", "rnn-additive", "transformer", "rnn-dot", "rnn-general", "rnn-concat", "rnn-none"):
        for data in ("dates", "recall"):
            recipe = recipe_for(name, "characters", data)
            model = recipe.build(source_vocab_size=39, target_vocab_size=15, joint=False, max_length=30)
            assert abs(model.num_parameters() / 66_000 - 1) < 0.02, (name, data, model.num_parameters())


@pytest.fixture
def few_rows(monkeypatch):
    """Data sets that are generated have a hundred rows."""
    monkeypatch.setattr("train.translate.__main__.load", lambda *args, **options: load(*args, **options, count=100))


def test_another_optimizer_brings_its_own_rate_and_a_rate_that_is_given_goes_for_it(few_rows):
    tables = [("characters", "dates"), ("characters", "recall"), ("characters", "locales"), ("tiny", ""), ("small", "")]
    for preset, data in tables:
        recipe = recipe_for("transformer", preset, data)
        other = next(name for name, optimizer in OPTIMIZERS.items() if optimizer is not recipe.optimizer)
        assert recipe.with_optimizer(other).optimizer is OPTIMIZERS[other]
        assert recipe.with_optimizer(other).lr == recipe.other_rates[other]
    for name in PRESETS["characters"]:
        assert recipe_for(name, "characters", "dates").with_optimizer("adamw").optimizer is adamw
    for flags, rate in (({}, RECALL["transformer"].other_rates["muon"]), ({"lr": 0.5}, 0.5)):
        settings = TranslateSettings(data="recall", models="transformer", optimizer="muon", **flags)
        recipe = Task.of(settings).recipes["transformer"]
        assert (recipe.optimizer, recipe.lr) == (muon, rate)


def test_batches_are_the_same_for_all_models_of_a_table_but_the_talks():
    tables = [("characters", "dates"), ("characters", "recall"), ("characters", "locales"), ("tiny", ""), ("small", "")]
    for preset, data in tables:
        recipes = [recipe_for(name, preset, data) for name in PRESETS[preset] if name != "talk"]
        assert len({(recipe.max_tokens, recipe.pool) for recipe in recipes}) == 1


def test_one_locale_is_trained_on_as_the_dates_of_the_talk_are_and_several_for_longer(few_rows):
    tasks = {names: Task.of(TranslateSettings(locales=names)) for names in (None, "en", "de", "en,de")}
    for names, task in tasks.items():
        recipe = task.recipes["transformer"]
        options = task.loop_options(recipe)
        several = names == "en,de"
        assert (recipe == LOCALES["transformer"]) == several
        assert (options.steps, options.minutes, options.evaluations) == ((None, 10, 12) if several else (None, 1, 40))
    steps = replace(tasks["en,de"], settings=TranslateSettings(locales="en,de", steps=7))
    assert steps.loop_options(recipe).minutes is None


def test_the_talks_recipe_is_the_talks_model():
    model = CHARACTERS["talk"].build(source_vocab_size=37, target_vocab_size=13, joint=False, max_length=30)
    assert model.num_parameters() == 66_091
    assert not model.config.masked
    assert model.config.teacher_forcing == 0.5


def test_a_finished_run_is_not_trained_again(run):
    before = {path: path.stat().st_mtime_ns for path in run.glob("*/model.safetensors")}
    with pytest.raises(SystemExit) as exit_:
        main(["--resume", str(run)])
    assert exit_.value.code == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.glob("*/model.safetensors")}


@pytest.mark.slow  # resumed translations are in test_translate_sentences.py and test_translate_large.py too
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_weights(pairs, tmp_path, monkeypatch, capsys):
    flags = ["--data", str(pairs), "--models", "transformer", "--steps", "16", "--device", "cpu"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    main([*flags, "--out", str(whole)])
    interrupted_at(7, Feed, monkeypatch, main, [*flags, "--out", str(stopped)])
    assert f"--resume {stopped}" in capsys.readouterr().out
    assert not (stopped / "results.json").exists()
    main(["--resume", str(stopped)])
    models = [(run / "transformer" / "model.safetensors").read_bytes() for run in (whole, stopped)]
    assert models[0] == models[1]


def test_lines_are_translated_in_order_from_arguments_a_file_or_standard_input(run, tmp_path, capsys, monkeypatch):
    texts = ["friday october 20 1995", "3/9/16", "", "27 07 95"]
    command(["translate", str(run / "transformer"), *texts])
    from_arguments = capsys.readouterr().out
    assert len(from_arguments.splitlines()) == 4
    assert from_arguments.splitlines()[2] == ""
    file = tmp_path / "lines.txt"
    file.write_text("\r\n".join(texts) + "\r\n", encoding="utf-8-sig", newline="")
    command(["translate", str(run / "transformer"), "--input", str(file)])
    assert capsys.readouterr().out == from_arguments
    with file.open("rb") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", type("Stdin", (), {"buffer": stream}))
        command(["translate", str(run / "transformer")])
    assert capsys.readouterr().out == from_arguments


@pytest.mark.parametrize("name", MODELS)
def test_n_best_lists_have_line_score_and_text_between_tabs(run, name, capsys):
    command(["translate", str(run / name), "3/9/16", "", "27 07 95", "--n-best", "2", "--beam", "3"])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3"]
    assert rows[2] == ["2", "", ""]
    assert float(rows[0][1]) >= float(rows[1][1])
    command(["translate", str(run / name), "3/9/16", "", "27 07 95", "--beam", "3"])
    assert capsys.readouterr().out.splitlines() == [rows[0][2], "", rows[3][2]]


@pytest.mark.parametrize("name", ["transformer", "rnn-location"])
def test_a_translation_in_bfloat16_is_that_of_the_weights_rounded_to_it(run, name, capsys):
    arguments = ["translate", str(run / name), "--precision", "bf16", "--n-best", "2", "may 3 1997", "27 07 95"]
    command(arguments)
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    translator = Translator.load(run / name)
    translator.model.bfloat16()
    expected = translator.n_best(["may 3 1997", "27 07 95"], n_best=2)
    assert [text for _, _, text in said] == [each.text for row in expected for each in row]
    assert [score for _, score, _ in said] == [f"{each.score:.4f}" for row in expected for each in row]


def test_lines_over_the_limit_are_translated_up_to_there(run, capsys):
    command(["translate", str(run / "transformer"), "27 07 95", "1" * 60])
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 2
    assert output.err == (
        "warning: 1 of 2 lines are longer than the 29 tokens that the model reads, and are cut there: line 2\n"
    )


@pytest.mark.parametrize("name", [name for name in MODELS if name != "rnn-none"])
def test_attend_draws_a_map_for_every_model_with_attention(run, name, tmp_path, capsys):
    command(["attend", str(run / name), "3 02 97", "--out", str(tmp_path / "map.png")])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_attend_draws_heads_one_by_one(run, tmp_path):
    command(["attend", str(run / "transformer"), "3 02 97", "--heads", "--out", str(tmp_path / "heads.png")])
    assert (tmp_path / "heads.png").exists()


def test_unknown_characters_are_counted_in_a_warning_and_read_on(run, capsys):
    command(["translate", str(run / "transformer"), "1990 ∞∞é"])
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 1
    assert output.err.startswith("warning: 3 characters were never seen in training")
    assert "'∞' (2)" in output.err


def test_what_cannot_be_used_is_refused_in_one_line(run, tmp_path, capsys):
    def translate(*arguments):
        return refused(capsys, ["translate", *map(str, arguments)], command)

    model = run / "transformer"
    assert "--beam 0 must be at least 1" in translate(model, "x", "--beam", "0")
    assert "--n-best 3 must be at least 1 and at most --beam 2" in translate(model, "x", "--beam", "2", "--n-best", "3")
    assert "--alpha -1" in translate(model, "x", "--alpha", "-1")
    assert "does not exist" in translate(tmp_path / "nowhere", "x")
    assert "has no config.json" in translate(tmp_path, "x")
    assert "holds several models: give one of them" in translate(run, "x")
    assert "one or the other" in translate(model, "x", "--input", tmp_path / "nowhere")
    (tmp_path / "empty.txt").write_text("")
    assert "no lines" in translate(model, "--input", tmp_path / "empty.txt")
    assert "No such file" in translate(model, "--input", tmp_path / "nowhere")
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    assert "not UTF-8: byte 0xe9 in line 2" in translate(model, "--input", tmp_path / "latin.txt")
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text((model / "config.json").read_text())
    assert "half-written" in translate(half, "x")
    assert "no attention" in refused(capsys, ["attend", str(run / "rnn-none"), "1990"], command)
    assert "empty line" in refused(capsys, ["attend", str(model), " "], command)
    assert ".png" in refused(capsys, ["attend", str(model), "1990", "--out", str(tmp_path / "map.gif")], command)


def test_bad_settings_and_data_are_refused_before_anything_is_written(pairs, tmp_path, capsys):
    out = tmp_path / "run"

    def train(*arguments):
        return refused(capsys, [*map(str, arguments), "--out", str(out)], main)

    assert "--models rnn-nought: not one: rnn-additive" in train("--models", "rnn-nought")
    assert "each once" in train("--models", "talk,talk")
    assert "--steps 0" in train("--steps", "0")
    assert "--lr -1" in train("--lr", "-1")
    assert "--max-tokens 0" in train("--max-tokens", "0")
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("latin.csv", b"source,target\ncaf\xe9,x\n", "UTF-8"),
        ("few.csv", b"source,target\na,b\n", "too few"),
        ("columns.csv", b"a,b,c\n1,2,3\n", "column"),
        ("text.txt", b"one\n" * 30, "pairs"),
        ("data.docx", b"x", "docx"),
        ("missing.csv", None, "missing.csv"),
    ],
)
def test_unusable_data_is_refused_in_one_line(tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = refused(capsys, ["--data", str(tmp_path / name), "--steps", "1", "--out", str(tmp_path / "run")], main)
    assert message in line
    assert not (tmp_path / "run").exists()
