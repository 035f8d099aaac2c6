"""What a page has room for, counted before a model runs."""

import numpy as np
import pytest
from helpers_page import PIPELINES, TEXT
from helpers_scripts import refused

from minitransformer.__main__ import main as command
from minitransformer.attend import views_of
from minitransformer.errors import InputError
from minitransformer.page import room
from minitransformer.page.room import shapes_ahead, shapes_of

pytestmark = pytest.mark.filterwarnings("ignore:.*are cut off", "ignore:.*fill the context", "ignore:.*longer than")
DECODED = {"transformer", "rnn", "gpt"}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("numbers", [(None, None), ([1], [2])])
def test_grids_are_known_ahead_but_for_where_decoding_ends(name, numbers):
    made = PIPELINES[name]()
    for text in (TEXT, "the lazy dog " * 3):
        ahead = shapes_ahead(made.model, made.map_sizes(text), *numbers)
        view = made.view(text)
        actual = shapes_of([view if numbers == (None, None) else view.only(*numbers)])
        if name in DECODED:
            assert [shape[:2] for shape in actual] == [shape[:2] for shape in ahead]
            assert all(np.less_equal(actual, ahead).flat)
        else:
            assert actual == ahead


def test_too_many_weights_are_refused_before_a_model_runs(monkeypatch):
    one, other = PIPELINES["bert"](), PIPELINES["transformer"]()
    shapes = [shape for each in (one, other) for shape in shapes_ahead(each.model, each.map_sizes(TEXT))]
    cells = sum(layers * heads * queries * keys for layers, heads, queries, keys in shapes)
    models = [(one, "one"), (other, "other")]
    monkeypatch.setattr(room, "MOST_CELLS", cells)
    assert len(views_of(models, TEXT)) == 2
    monkeypatch.setattr(room, "MOST_CELLS", cells - 1)
    assert len(views_of(models, TEXT, layers=[2])) == 2

    def run(*_, **__):
        raise AssertionError("a model ran")

    for each in (one, other):
        for module in each.model.modules():
            monkeypatch.setattr(module, "forward", run)
    with pytest.raises(InputError, match=rf"^{cells:,} weights are more than .* name some of the 2 layers and 2 heads"):
        views_of(models, TEXT)


def test_the_command_refuses_them_in_one_line(monkeypatch, tmp_path, capsys):
    run = PIPELINES["bert"]().save(tmp_path / "run")
    monkeypatch.setattr(room, "MOST_CELLS", 20)
    page = tmp_path / "page.html"
    line = refused(capsys, ["attend", str(run), TEXT, "--out", str(page)], command)
    assert "weights are more than the 20 that a page has room for" in line and not page.exists()
