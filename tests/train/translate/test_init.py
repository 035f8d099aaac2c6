"""`python -m train.translate --init`: a translator continues on other pairs, with its tokenizers."""

import json

import pytest
import torch
from helpers_runs import write_corpora
from helpers_scripts import refused, results_of

from minitransformer import GPT, BERTConfig, GPTConfig, Transformer, TransformerConfig, Translator
from minitransformer.models import BERT
from train.translate import bleu, exact_match
from train.translate.__main__ import main
from train.translate.starting_model import continued

pytestmark = pytest.mark.usefixtures("as_users_run_it")
FLAGS = ["--device", "cpu", "--threads", "1", "--steps", "2", "--evaluations", "1"]


@pytest.fixture(autouse=True)
def without_pictures_and_long_translations(monkeypatch):
    for kind in (exact_match.ExactMatch, bleu.Bleu):
        monkeypatch.setattr(kind, "draw", lambda *_: None)
        monkeypatch.setattr(kind, "extra_tokens", 1)


@pytest.fixture
def data(tmp_path):
    return write_corpora(tmp_path)


def turned(data):
    """The pairs of `sentences.tsv` in the other direction, with a word that the first has not, and a longer pair."""
    rows = [line.split("\t") for line in (data / "sentences.tsv").read_text().splitlines()[1:]]
    rows += [["wall " * 20, "wall " * 20]] + [["Ω the wall is ß", "green"]] * 3
    path = data / "turned.tsv"
    path.write_text("".join(f"{b}\t{a}\n" for a, b in [["source", "target"][::-1], *rows]))
    return path


def test_a_translator_continues_in_the_other_direction_with_its_vocabulary(data, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    sizes = ["--preset", "characters", "--models", "transformer", "--tokenizer", "bpe", "--vocab-size", "90"]
    sizes += ["--beam", "1", "--average", "1"]
    main([*FLAGS, *sizes, "--data", str(data / "sentences.tsv"), "--out", str(first)])
    main([*FLAGS, "--init", str(first), "--data", str(turned(data)), "--out", str(second), "--beam", "1"])
    assert "tokens of train are unknown to the tokenizer" in capsys.readouterr().err
    old, new = (Translator.load(run / "transformer") for run in (first, second))
    assert new.source_tokenizer.to_str() == old.source_tokenizer.to_str()
    assert not all(torch.equal(a, b) for a, b in zip(old.model.parameters(), new.model.parameters(), strict=True))
    assert set(json.loads((second / "config.json").read_text())["data_sha256"]) >= {"--init model.safetensors"}
    assert list(results_of(second)["models"]) == ["transformer"]


def test_a_model_of_characters_keeps_its_own_recipe(data, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    both = [*FLAGS, "--data", str(data / "pairs.tsv")]
    main([*both, "--models", "rnn-none,transformer", "--tokenizer", "character", "--out", str(first)])
    main([*both, "--init", str(first / "rnn-none"), "--out", str(second)])
    assert list(results_of(second)["models"]) == ["rnn-none"]


def saved(kind, folder):
    """A model of this kind, saved alone."""
    sizes = dict(d_model=8, num_heads=1, max_length=8)
    model = {
        "gpt": lambda: GPT(GPTConfig(9, num_layers=1, eos_id=0, **sizes)),
        "bert": lambda: BERT(BERTConfig(9, num_layers=1, cls_id=1, sep_id=2, mask_id=3, **sizes)),
    }[kind]()
    return model.save(folder)


@pytest.mark.parametrize(
    ("kind", "says"),
    [("gpt", "holds a GPT, which does not translate"), ("bert", "holds a BERT, which does not translate")],
)
def test_another_kind_of_run_is_named_as_what_it_is(kind, says, data, tmp_path, capsys):
    saved(kind, tmp_path / kind)
    words = ["--init", str(tmp_path / kind), "--data", str(data / "pairs.tsv"), "--out", str(tmp_path / "run")]
    assert says in refused(capsys, words, main)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--models=transformer", "--preset=tiny", "--no-joint", "--vocab-size=90"])
def test_a_flag_that_the_model_of_init_decides_is_refused(flag, tmp_path, capsys):
    line = refused(capsys, ["--init", "a", flag, "--out", str(tmp_path / "run")], main)
    assert "no effect beside --init a; leave this out" in line


@pytest.mark.parametrize(("positions", "longest"), [("rotary", 40), ("learned", 8)])
def test_limits_grow_where_no_parameter_has_their_size(positions, longest):
    sizes = dict(d_model=8, num_heads=2, d_ff=8, num_encoder_layers=1, num_decoder_layers=1)
    model = Transformer(TransformerConfig(9, 9, max_length=8, max_extra_tokens=7, positions=positions, **sizes))
    new = continued(model)(max_length=40, max_extra_tokens=5, joint=True)
    assert (new.config.max_length, new.config.max_extra_tokens) == (longest, 7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), new.parameters(), strict=True))
