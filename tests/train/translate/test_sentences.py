"""`python -m train.translate` on sentences: BLEU, averaged weights, subwords."""

import json
import random
import shutil
from contextlib import suppress
from dataclasses import replace
from itertools import count

import pytest
import torch
from helpers_scripts import samples_of
from sacrebleu.metrics import BLEU
from safetensors.torch import load_file

from minitransformer.__main__ import main as command
from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from train.translate.__main__ import main
from train.translate.bleu import Bleu
from train.translate.data import TranslationData
from train.translate.recipes import PRESETS, Recipe, rnn, transformer

pytestmark = pytest.mark.usefixtures("as_users_run_it")
WORDS = {"der": "the", "Hund": "dog", "Mann": "man", "sieht": "sees", "eine": "a", "Katze": "cat", "und": "and"}
FLAGS = ["--source", "de", "--target", "en", "--tokenizer", "bpe", "--vocab-size", "60", "--threads", "1"]


def write_pairs(folder, count, seed, stem):
    generator = random.Random(seed)
    sentences = [generator.choices(list(WORDS), k=generator.randint(2, 6)) for _ in range(count)]
    for suffix, lines in (
        ("de", [" ".join(words) for words in sentences]),
        ("en", [" ".join(WORDS[word] for word in words) for words in sentences]),
    ):
        (folder / f"{stem}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def small_models():
    """The preset's models, pictures, and translations of 50 tokens more than their source would take most of the time
    of so short a run, whose models know no end yet."""
    sizes = dict(d_model=32, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1, dropout=0.0)
    options = dict(lr=1e-2, warmup_steps=5, max_tokens=4096, pool=200)
    recurrent = dict(attention="additive", d_model=32, hidden_size=32, bidirectional=True, dropout=0.0)
    recipes = {
        "transformer": Recipe(transformer(**sizes, positions="rotary", pre_norm=True), **options),
        "rnn-additive": Recipe(rnn(**recurrent), **options),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], recipes=recipes))
        patch.setattr(Bleu, "draw", lambda *_: None)
        patch.setattr(Bleu, "extra_tokens", 1)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_pairs(folder, 60, 0, "train")
    write_pairs(folder, 12, 1, "val")
    write_pairs(folder, 9, 2, "test")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run, long enough for the models to have learned some words."""
    out = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--models", "transformer,rnn-additive", "--steps", "40", "--evaluations", "2"]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(out)])
    return out


def reports_of(run):
    return json.loads((run / "results.json").read_text())["models"]


def test_a_run_on_sentences_reports_the_bleu_of_the_saved_models_on_the_test_split(run, corpus):
    assert json.loads((run / "results.json").read_text())["scored_on"] == "test"
    source, target = ((corpus / f"test.{side}").read_text().splitlines() for side in ("de", "en"))
    for name, report in reports_of(run).items():
        assert (report["scored_on"], report["beam"]) == ("test", 5)
        assert sum(group["count"] for group in report["by_length"].values()) == 9
        assert [e["step"] for e in report["validation"] if "averaged" not in e] == [20, 40]
        kept = {path.name for path in (run / name / "checkpoints").glob("evaluated-*")}
        assert kept == {"evaluated-00000020", "evaluated-00000040"}
        assert (run / name / "tokenizer.json").is_file()  # one vocabulary for both sides
        assert not (run / name / "source_tokenizer.json").exists()
        translator = Translator.load(run / name)
        outputs = translator(source, beam_size=5)
        assert report["bleu"] == BLEU(force=True).corpus_score(outputs, [target]).score
    assert reports_of(run)["transformer"]["bleu"] > 5
    held_out = dict(zip(*((corpus / f"val.{side}").read_text().splitlines() for side in ("de", "en")), strict=True))
    for name in reports_of(run):
        samples = samples_of(run / name)
        assert len(samples) == 3 * 2 and all(held_out[each["source"]] == each["reference"] for each in samples)


@pytest.mark.parametrize(("choice", "best"), [("loss", 2), ("score", 3)])
def test_the_best_weights_have_the_lowest_loss_or_the_highest_score(corpus, tmp_path, monkeypatch, choice, best):
    scores, losses = iter([1.0, 2.0, 3.0]), iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(Bleu, "watched", lambda *_: next(scores))
    monkeypatch.setattr(TranslationData, "loss", lambda *_: next(losses))
    flags = ["--steps", "3", "--evaluations", "3", "--average", "1", "--beam", "1", "--choose-by", choice]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(tmp_path / "run")])
    assert reports_of(tmp_path / "run")["transformer"]["best_step"] == best
    saved = load_file(tmp_path / "run" / "transformer" / "model.safetensors")
    weights = load_file(tmp_path / "run" / "transformer" / "checkpoints" / f"evaluated-{best:08}" / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--evaluations 1 --average-of last", "--average 5: evaluations: 1, so the mean does not exist"),
        ("--evaluations 2 --average 3", "--average 3: evaluations: 2, so the mean is of all of them"),
        ("--evaluations 1", None),  # nobody asked for a mean
    ],
)
def test_fewer_evaluations_than_were_to_be_averaged_are_said(corpus, tmp_path, capsys, flags, says):
    main(["--data", str(corpus), *FLAGS, "--steps", "2", *flags.split(), "--beam", "1", "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert says in err if says else "--average" not in err


def test_a_run_killed_while_it_is_scored_or_without_its_model_averages_the_same_weights_again(
    corpus, tmp_path, monkeypatch, recwarn
):
    def killed(*_):
        raise RuntimeError("killed")

    scores = count(1.0)
    monkeypatch.setattr(Bleu, "watched", lambda *_: next(scores))  # so the mean, which is scored last, is the best
    flags = ["--data", str(corpus), *FLAGS, "--steps", "4", "--evaluations", "4", "--average", "3", "--beam", "1"]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("train.translate.__main__.score_on_test", killed)
        main([*flags, "--out", str(tmp_path / "killed")])
    main([*flags, "--out", str(tmp_path / "whole")])
    shutil.copytree(tmp_path / "whole", tmp_path / "lost")
    for name in ("results.json", "transformer/results.json", "transformer/model.safetensors"):
        (tmp_path / "lost" / name).unlink()
    names, reports = ("whole", "killed", "lost"), []
    for name in names:
        recwarn.clear()
        with suppress(SystemExit):  # of the whole one, which is finished
            main(["--resume", str(tmp_path / name)])
        assert not [warning for warning in recwarn if "mean" in str(warning.message)]
        report = reports_of(tmp_path / name)["transformer"]
        reports.append([report[key] for key in ("averaged", "bleu")])
    assert reports[0][0] == [4, 3, 2]
    assert reports == 3 * reports[:1]
    weights = [(tmp_path / name / "transformer" / "model.safetensors").read_bytes() for name in names]
    assert weights == 3 * weights[:1]


def test_two_vocabularies_are_saved_and_long_training_pairs_are_left_out_and_counted(corpus, run, tmp_path, capsys):
    longest = max(len(line.split()) for line in (corpus / "train.de").read_text().splitlines())
    flags = ["--max-length", str(longest), "--vocab-size", "200", "--no-joint", "--steps", "1", "--beam", "1"]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(tmp_path / "one")])
    err = capsys.readouterr().err
    assert f"of 60 training pairs have more than {longest} tokens" in err
    assert "of 9 translations are cut off at 10 tokens more than their source (train longer: --minutes, --steps)" in err
    assert (tmp_path / "one" / "transformer" / "source_tokenizer.json").is_file()
    command(["translate", str(tmp_path / "one"), "der Hund"])  # a run with one model is that model
    assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(InputError, match="several models"):
        Translator.load(run)
