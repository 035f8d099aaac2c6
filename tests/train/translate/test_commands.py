"""`python -m minitransformer translate` and `attend`, with the models of a run."""

import pytest
from helpers_scripts import refused

from minitransformer.__main__ import main as command
from minitransformer.pipelines.translator import Translator


@pytest.mark.parametrize("name", ["transformer", "rnn-location"])
def test_a_translation_in_bfloat16_is_that_of_the_weights_rounded_to_it(run, name, capsys):
    arguments = ["translate", str(run / name), "--precision", "bf16", "--n-best", "2", "may 3 1997", "27 07 95"]
    command(arguments)
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    translator = Translator.load(run / name)
    translator.model.bfloat16()
    expected = translator.n_best(["may 3 1997", "27 07 95"], n_best=2)
    assert [text for _, _, text in printed] == [each.text for row in expected for each in row]
    assert [score for _, score, _ in printed] == [f"{each.score:.4f}" for row in expected for each in row]


@pytest.mark.parametrize(("name", "heads"), [("rnn-location", []), ("transformer", ["--heads"])])
def test_attend_draws_a_map_for_every_model_with_attention(run, name, heads, tmp_path):
    command(["attend", str(run / name), "3 02 97", *heads, "--out", str(tmp_path / "map.png")])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_needs_one_model_with_attention_and_a_text(run, capsys):
    assert "holds several models: give one of them" in refused(capsys, ["attend", str(run), "1990"], command)
    assert "no attention" in refused(capsys, ["attend", str(run / "rnn-none"), "1990"], command)
    assert "line is empty" in refused(capsys, ["attend", str(run / "transformer"), " "], command)
