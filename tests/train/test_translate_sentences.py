import json
import random

import pytest
from helpers_scripts import refused
from sacrebleu.metrics import BLEU

from minitransformer.__main__ import main as command
from minitransformer.data import load
from minitransformer.errors import InputError
from minitransformer.translation import Translator
from train.recipes import PRESETS
from train.translate import main
from train.translation_data import TranslationData

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


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of the time of a run as short as these; `run`, made before, has them."""
    monkeypatch.setattr("train.translate.draw", lambda *_: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_pairs(folder, 30, 0, "train")
    write_pairs(folder, 4, 1, "val")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run of a few steps."""
    out = tmp_path_factory.mktemp("runs") / "run"
    main(["--data", str(corpus), *FLAGS, "--models", "transformer,rnn-additive", "--steps", "2", "--out", str(out)])
    return out


def test_a_run_on_sentences_reports_bleu_and_saves_one_vocabulary(run, corpus):
    results = json.loads((run / "results.json").read_text())
    assert results["scored_on"] == "validation"
    for name, report in results["models"].items():
        assert report["beam"] == 5
        assert sum(group["count"] for group in report["by_length"]) == 4
        assert [e["step"] for e in report["validation"] if "averaged" not in e] == [1, 2]
        assert (run / name / "tokenizer.json").is_file()
        assert not (run / name / "source_tokenizer.json").exists()
        translator = Translator.load(run / name)
        pairs = [(corpus / f"val.{side}").read_text().splitlines() for side in ("de", "en")]
        data = TranslationData.of(
            load(corpus, source="de", target="en"), translator.source_tokenizer, translator.target_tokenizer, None
        )
        outputs = translator(pairs[0], beam_size=5, max_new_tokens=data.longest[1] + 10)
        assert report["bleu"] == BLEU(force=True).corpus_score(outputs, [pairs[1]]).score


def test_a_run_killed_while_it_is_scored_ends_as_one_that_was_not(corpus, tmp_path, monkeypatch):
    flags = ["--data", str(corpus), *FLAGS, "--steps", "4", "--evaluations", "4", "--beam", "1", "--out"]
    main([*flags, str(tmp_path / "whole")])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("train.translate.score_on_test", killed)
        main([*flags, str(tmp_path / "killed")])
    main(["--resume", str(tmp_path / "killed")])
    whole, resumed = (
        json.loads((tmp_path / name / "results.json").read_text())["models"]["transformer"]
        for name in ("whole", "killed")
    )
    assert whole["averaged"] == resumed["averaged"]
    assert whole["bleu"] == resumed["bleu"]
    weights = [(tmp_path / name / "transformer" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert not list(tmp_path.glob("*/transformer/checkpoints/evaluated-*"))


def killed(*_):
    raise RuntimeError("killed")


def test_the_folder_of_a_run_with_one_model_translates_and_of_several_is_refused(corpus, run, tmp_path, capsys):
    main(["--data", str(corpus), *FLAGS, "--steps", "1", "--beam", "1", "--no-joint", "--out", str(tmp_path / "one")])
    assert (tmp_path / "one" / "transformer" / "source_tokenizer.json").is_file()
    capsys.readouterr()
    command(["translate", str(tmp_path / "one"), "der Hund"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(InputError, match="several models"):
        Translator.load(run)


def test_training_pairs_over_the_limit_are_left_out_and_counted(corpus, tmp_path, capsys):
    lengths = [len(line.split()) for line in (corpus / "train.de").read_text().splitlines()]
    flags = ["--max-length", str(max(lengths)), "--vocab-size", "200", "--steps", "1", "--beam", "1"]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(tmp_path / "run")])
    assert f"of 30 training pairs have more than {max(lengths)} tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--models", "rnn-location"], "rnn-location"),
        (["--vocab-size", "5"], "--vocab-size 5 is too small for source and target together"),
        (["--vocab-size", "18", "--no-joint"], "--vocab-size 18 is too small for the source"),
        (
            ["--vocab-size", "18", "--no-joint", "--source", "en", "--target", "de"],
            "--vocab-size 18 is too small for the target: training text has 15 different characters, so it must be at "
            "least 19",
        ),
        (["--beam", "0"], "--beam 0"),
        (["--max-length", "1"], "--max-length"),
        (["--alpha", "-1"], "--alpha -1"),
        (["--source", "fr"], "no train.fr"),
        (["--models", "transformer,rnn-additive", "--optimizer", "muon"], "--optimizer muon is for the transformer"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(corpus, tmp_path, capsys, flags, named):
    out = tmp_path / "run"
    given = ["--data", str(corpus), *FLAGS, "--steps", "1", "--out", str(out), *flags]
    assert named in refused(capsys, given, main)
    assert not out.exists()


def test_every_recipe_of_sentences_builds_with_one_vocabulary_and_with_two():
    for preset in ("tiny", "small"):
        for recipe in PRESETS[preset].values():
            for joint in (True, False):
                sizes = dict(source_vocab_size=50, target_vocab_size=50 if joint else 40)
                model = recipe.build(**sizes, joint=joint, max_length=32, dropout=0.25, label_smoothing=0.0)
                assert model.config.dropout == 0.25
