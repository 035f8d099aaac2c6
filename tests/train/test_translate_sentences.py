import json
import random

import pytest
import torch
from helpers_scripts import refused
from sacrebleu.metrics import BLEU
from safetensors.torch import load_file

from minitransformer.__main__ import main as command
from minitransformer.data import load
from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from train.translate.__main__ import main
from train.translate.data import TranslationData
from train.translate.recipes import PRESETS, SMALL, TINY, Recipe, rnn, transformer

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
    """Those of the preset would take most of the time of a run as short as these."""
    sizes = dict(d_model=32, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1, dropout=0.0)
    options = dict(lr=1e-2, warmup_steps=5, max_tokens=4096, pool=200)
    recurrent = dict(attention="additive", d_model=32, hidden_size=32, bidirectional=True, dropout=0.0)
    recipes = {
        "transformer": Recipe(transformer(**sizes, positions="rotary", pre_norm=True), **options),
        "rnn-additive": Recipe(rnn(**recurrent), **options),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", recipes)
        yield


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of the time of a run as short as these; `run`, made before, has them."""
    monkeypatch.setattr("train.translate.__main__.draw", lambda *_: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_pairs(folder, 60, 0, "train")
    write_pairs(folder, 12, 1, "val")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run, long enough for the models to have learned some words."""
    out = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--models", "transformer,rnn-additive", "--steps", "40", "--evaluations", "2"]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(out)])
    return out


def bleu_of(model_folder, corpus, split, longest):
    """The BLEU of a saved model's translations of a split, by sacreBLEU itself."""
    source, target = ((corpus / f"{split}.{side}").read_text().splitlines() for side in ("de", "en"))
    outputs = Translator.load(model_folder)(source, beam_size=5, max_new_tokens=longest + 10)
    return BLEU(force=True).corpus_score(outputs, [target]).score


def reports_of(run):
    return json.loads((run / "results.json").read_text())["models"]


def test_a_run_on_sentences_reports_bleu_and_saves_one_vocabulary(run, corpus):
    assert json.loads((run / "results.json").read_text())["scored_on"] == "validation"
    for name, report in reports_of(run).items():
        assert report["beam"] == 5
        assert sum(group["count"] for group in report["by_length"]) == 12
        assert [e["step"] for e in report["validation"] if "averaged" not in e] == [20, 40]
        assert (run / name / "tokenizer.json").is_file()
        assert not (run / name / "source_tokenizer.json").exists()
        translator = Translator.load(run / name)
        tokenizers = translator.source_tokenizer, translator.target_tokenizer
        longest = TranslationData.of(load(corpus, source="de", target="en"), *tokenizers, None).longest[1]
        assert report["bleu"] == bleu_of(run / name, corpus, "val", longest)
    assert reports_of(run)["transformer"]["bleu"] > 5


def test_the_test_split_of_a_folder_is_what_the_figures_are_of(corpus, tmp_path):
    for file in corpus.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_pairs(tmp_path, 9, 2, "test")
    main(["--data", str(tmp_path), *FLAGS, "--steps", "40", "--evaluations", "1", "--out", str(tmp_path / "run")])
    report = reports_of(tmp_path / "run")["transformer"]
    assert report["scored_on"] == "test"
    assert sum(group["count"] for group in report["by_length"]) == 9
    assert report["bleu"] == bleu_of(tmp_path / "run" / "transformer", tmp_path, "test", 40) > 5


def test_a_tsv_of_sentences_is_cut_into_pieces_of_words(corpus, tmp_path):
    sides = [(corpus / f"train.{side}").read_text().splitlines() for side in ("de", "en")]
    rows = ["\t".join(pair) for pair in zip(*sides, strict=True)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["de\ten", *rows]) + "\n", encoding="utf-8")
    main(["--data", str(tmp_path / "pairs.tsv"), *FLAGS, "--steps", "1", "--beam", "1", "--out", str(tmp_path / "run")])
    assert reports_of(tmp_path / "run")["transformer"]["scored_on"] == "test"
    pieces = Translator.load(tmp_path / "run").source_tokenizer.encode("der Hund", add_special_tokens=False).tokens
    assert "".join(pieces) == "der Hund" and len(pieces) < 8


def test_a_run_stops_when_its_patience_is_at_an_end(corpus, tmp_path):
    flags = ["--steps", "12", "--evaluations", "6", "--patience", "2", "--beam", "1", "--lr", "1e-20"]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(tmp_path / "run")])
    report = reports_of(tmp_path / "run")["transformer"]
    assert (report["steps"], report["best_step"]) == (6, 2)


@pytest.mark.parametrize(("choice", "best"), [("loss", 2), ("score", 3)])
def test_the_best_weights_have_the_lowest_loss_or_the_highest_score(corpus, tmp_path, monkeypatch, choice, best):
    scores, losses = iter([1.0, 2.0, 3.0]), iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("train.translate.measures.Bleu.watched", lambda *_: next(scores))
    monkeypatch.setattr(TranslationData, "loss", lambda *_: next(losses))
    flags = ["--steps", "3", "--evaluations", "3", "--average", "1", "--beam", "1", "--choose-by", choice]
    main(["--data", str(corpus), *FLAGS, *flags, "--out", str(tmp_path / "run")])
    assert reports_of(tmp_path / "run")["transformer"]["best_step"] == best
    saved = load_file(tmp_path / "run" / "transformer" / "model.safetensors")
    weights = load_file(tmp_path / "run" / "transformer" / "checkpoints" / f"best-{best:08}.safetensors")
    assert all(torch.equal(tensor, weights[f"model/{name}"]) for name, tensor in saved.items())


def test_a_run_killed_while_it_is_scored_ends_as_one_that_was_not(corpus, tmp_path, monkeypatch):
    flags = ["--data", str(corpus), *FLAGS, "--steps", "4", "--evaluations", "4", "--beam", "1", "--out"]
    main([*flags, str(tmp_path / "whole")])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("train.translate.__main__.score_on_test", killed)
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
    assert f"of 60 training pairs have more than {max(lengths)} tokens" in capsys.readouterr().err


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
    for recipes in (TINY, SMALL):
        for recipe in recipes.values():
            for joint in (True, False):
                sizes = dict(source_vocab_size=50, target_vocab_size=50 if joint else 40)
                model = recipe.build(**sizes, joint=joint, max_length=32, dropout=0.25, label_smoothing=0.0)
                assert model.config.dropout == 0.25
