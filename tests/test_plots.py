import warnings

import numpy as np
import pytest
import torch

from minitransformer import plots
from minitransformer.errors import InputError
from minitransformer.plots import AttentionExample, attention_figure

SOURCE, TARGET = ["9", " ", "a", "[EOS]"], ["1", "-", "[EOS]"]


def weights(*heads):
    return torch.rand(*heads, len(TARGET), len(SOURCE)).softmax(-1)


@pytest.fixture
def saved(monkeypatch):
    """The figures that would have been saved."""
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure) or path)
    return figures


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def png_size(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_cell_t_s_shows_weights_t_s_and_every_token_has_its_label_with_input_across_and_output_down():
    given = weights()
    axes = attention_figure([[("model", AttentionExample(given, SOURCE, TARGET))]]).axes[0]
    [mesh] = axes.collections
    np.testing.assert_allclose(np.reshape(mesh.get_array(), given.shape), given)
    assert mesh.get_clim() == (0, 1)
    assert tick_labels(axes.xaxis) == ["9", "␣", "a", "[EOS]"]
    assert tick_labels(axes.yaxis) == TARGET
    assert axes.get_title(loc="left") == "model"
    assert axes.yaxis_inverted()
    assert [label.get_rotation() for label in axes.get_xticklabels()] == [0, 0, 0, 90]


@pytest.mark.parametrize(
    ("token", "label"),
    [("\n", "↵"), ("a b\u202f", "a␣b␣"), ("\x00", r"\x00"), ("\ud800", r"\ud800"), ("x" * 17, "x" * 15 + "…")],
)
def test_labels_show_what_would_be_invisible_or_endless(token, label):
    axes = attention_figure([[("", AttentionExample(np.ones((1, 1)), [token], "1"))]]).axes[0]
    assert tick_labels(axes.xaxis) == [label]


def test_any_float_weights_are_drawn_and_their_graph_left_alone(tmp_path):
    grown = weights().requires_grad_()
    for given in (grown, weights().bfloat16(), weights().numpy(), weights().double().numpy()):
        path = plots.attention_map(given, SOURCE, TARGET, title="$x_1$ costs $2", path=tmp_path / "map.png")
        assert min(png_size(path)) > plots.CELL * len(TARGET) * plots.DPI
    assert grown.requires_grad


def test_a_grid_has_a_column_for_each_model_and_a_row_for_each_example(tmp_path, saved):
    example = AttentionExample(weights(), SOURCE, TARGET)
    plots.attention_grid({"GRU": [example, example], "Transformer": [example, example]}, tmp_path / "grid.png")
    *panels, _bar = saved[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["GRU", "Transformer"] * 2
    (left, top), (right, _), (_, bottom), _ = [(axes.get_position().x0, axes.get_position().y0) for axes in panels]
    assert left < right and bottom < top


def test_of_a_long_text_the_first_tokens_are_drawn_and_the_picture_says_so():
    most = plots.MOST_TOKENS
    given = np.random.default_rng(0).random((most + 5, 2 * most))
    figure = attention_figure([[("", AttentionExample(given, "s" * 2 * most, "t" * (most + 5)))]], title="t" * 5000)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.collections[0].get_array().ravel(), given[:most, :most].ravel())
    assert axes.get_xlabel() == f"the first {most} of {2 * most} input and {most + 5} output tokens"
    [heading] = [text.get_text() for text in figure.texts]
    assert heading.endswith("…") and len(heading) < 200


def test_what_does_not_fit_is_refused_with_its_sizes(tmp_path):
    with pytest.raises(InputError, match=r"\(3, 4\) do not fit .* \(3, 5\)"):
        plots.attention_map(weights(), [*SOURCE, "x"], TARGET, path=tmp_path / "map.png")
    with pytest.raises(InputError, match=r"\(0, 4\)"):
        AttentionExample(np.ones((0, 4)), SOURCE, [])
    example = AttentionExample(weights(), SOURCE, TARGET)
    with pytest.raises(InputError, match="'GRU': 1, 'Transformer': 2"):
        plots.attention_grid({"GRU": [example], "Transformer": [example] * 2}, tmp_path / "grid.png")
    with pytest.raises(InputError, match="no attention maps"):
        plots.attention_grid({}, tmp_path / "grid.png")
    with pytest.raises(InputError, match="too large"):
        plots.attention_grid(
            {"GRU": [AttentionExample(np.ones((80, 80)), "s" * 80, "t" * 80)] * 40}, tmp_path / "a.png"
        )
    with pytest.raises(InputError, match="GRU"):
        plots.learning_curves({"GRU": []}, tmp_path / "curves.png", xlabel="x", ylabel="y")
    with pytest.raises(InputError, match=r"map\.jpg"):
        plots.attention_map(weights(), SOURCE, TARGET, path=tmp_path / "map.jpg")
    with pytest.raises(InputError, match="there is no folder"):
        plots.attention_map(weights(), SOURCE, TARGET, path=tmp_path / "nowhere" / "map.png")
    assert not list(tmp_path.iterdir())


def test_a_script_without_glyphs_warns_nobody(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.attention_map(np.ones((1, 2)), "日本", "1", title="日本", path=tmp_path / "map.png")
