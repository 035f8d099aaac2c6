"""`minitransformer attend`, which writes a page of any model."""

import pytest
from helpers_page import PIPELINES, TEXT, data_of, rnn, transformer
from helpers_scripts import refused

from minitransformer import RNNConfig, RNNSeq2Seq, Translator
from minitransformer.__main__ import main as command
from minitransformer.attend import numbers
from minitransformer.errors import InputError
from minitransformer.pipelines.loading import titles

pytestmark = pytest.mark.filterwarnings("ignore:.*are cut off", "ignore:.*fill the context")


@pytest.fixture
def run(tmp_path):
    """A run folder of two models, as train.translate writes it."""
    transformer().save(tmp_path / "run" / "transformer")
    rnn().save(tmp_path / "run" / "rnn-location")
    return tmp_path / "run"


def written(arguments, page):
    command(["attend", *map(str, arguments), "--out", str(page)])
    return data_of(page.read_text())["views"]


@pytest.mark.parametrize("name", PIPELINES)
def test_every_kind_of_run_has_a_page(name, tmp_path, capsys):
    PIPELINES[name]().save(tmp_path / "run")
    [view] = written([tmp_path / "run", TEXT], tmp_path / "page.html")
    assert (view["title"], view["text"]) == ("run", TEXT)
    assert view["grids"] and capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"


def test_several_runs_and_the_models_of_one_are_compared(run, tmp_path):
    PIPELINES["gpt"]().save(tmp_path / "gpt")
    found = written([run / "transformer", run / "rnn-location", tmp_path / "gpt", TEXT], tmp_path / "page.html")
    assert [view["title"] for view in found] == ["transformer", "rnn-location", "gpt"]
    assert [view["title"] for view in written([run, TEXT], tmp_path / "page.html")] == ["rnn-location", "transformer"]


def test_layers_and_heads_are_kept_by_number(run, tmp_path):
    arguments = [run / "transformer", TEXT, "--layers", "2", "--heads", "1-2"]
    [view] = written(arguments, tmp_path / "page.html")
    assert {(*grid["layers"], *grid["heads"]) for grid in view["grids"]} == {(2, 1, 2)}
    assert numbers("layers", ("1,3-5", "7")) == [1, 3, 4, 5, 7]
    for wrong in ("", "a", "1-", "-2", "1,,2", "99999", "1.5"):
        with pytest.raises(InputError, match="give numbers from 1, such as 1,3 or 2-4"):
            numbers("layers", (wrong,))


def test_what_cannot_be_shown_is_one_line(run, tmp_path, capsys):
    blind = RNNSeq2Seq(RNNConfig(30, 30, d_model=8, hidden_size=8, attention="none")).eval()
    tokenizer = rnn().source_tokenizer
    Translator(blind, tokenizer, tokenizer).save(tmp_path / "rnn-none")
    PIPELINES["gpt"]().save(tmp_path / "gpt")
    page, run = tmp_path / "page.html", run / "transformer"

    def said(*arguments):
        return refused(capsys, ["attend", *map(str, arguments)], command)

    assert "rnn-none: this model has no attention to show" in said(tmp_path / "rnn-none", TEXT, "--out", page)
    assert "--layers 3: there are layers 1-2" in said(run, TEXT, "--out", page, "--layers", "3")
    assert "give a text after the run" in said(run)
    assert "ends in .png for a picture, or in .html for a page" in said(run, TEXT, "--out", "page.pdf")
    assert "there is no folder" in said(run, TEXT, "--out", "no/where/page.html")
    assert "2 models in a picture" in said(run, run, TEXT)
    assert "holds a GPT, which does not translate: --out page.html shows it" in said(tmp_path / "gpt", TEXT)
    assert "with numbers are for a page" in said(run, TEXT, "--heads", "1")
    assert not page.exists()


def test_titles_are_as_long_as_tells_runs_apart(tmp_path):
    first, second = tmp_path / "a" / "transformer", tmp_path / "b" / "transformer"
    assert titles([first, second]) == ["a/transformer", "b/transformer"]
    assert titles([first, tmp_path / "rnn"]) == ["transformer", "rnn"]
    assert titles([first, first]) == ["transformer", "transformer"]
