"""Formulas read from images."""

import itertools

import numpy as np
import pytest
import torch
from helpers_applications import run
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser

from minitransformer.attention_maps import record_attention
from train.applications import image_to_latex
from train.applications.image_to_latex import (
    COLUMNS,
    HEIGHT,
    LONGEST,
    ROWS,
    WIDTH,
    LatexWriter,
    LatexWriterConfig,
    drawn_again,
    drawn_formulas,
    image_of,
    splits_of,
    symbols_of,
)
from train.applications.writer import ids_before


@pytest.fixture(scope="module")
def rows():
    return drawn_formulas(20)[0]


def writer(**options):
    torch.manual_seed(0)
    return LatexWriter(LatexWriterConfig(**{"hidden_size": 6, "d_model": 4} | options)).eval()


def test_a_tiny_run_trains_both_rivals_and_draws(tmp_path):
    flags = ["--steps", "6", "--formulas", "20", "--d-model", "4", "--hidden-size", "8", "--lr", "0.1"]
    found = run(image_to_latex, tmp_path / "run", *flags, "--evaluations", "2", "--beam-size", "2")
    assert list(found) == ["attention", "mean of the image"]
    assert found["attention"]["parameters"] == found["mean of the image"]["parameters"]


def test_formulas_have_one_spelling_and_no_two_look_alike(rows):
    assert len({image.numpy().tobytes() for image in rows["inputs"]}) == 20
    assert rows["inputs"].shape == (20, HEIGHT, WIDTH) and 0 <= rows["inputs"].min() < rows["inputs"].max() <= 1
    for ids in rows["ids"].tolist():
        formula = symbols_of(ids)
        assert 0 < len(formula) <= LONGEST
        assert all((a, c) != ("^", "_") for a, _, c in zip(formula, formula[1:], formula[2:], strict=False))
    parts = splits_of(rows)
    assert {name: len(part["ids"]) for name, part in parts.items()} == {"test": 2, "validation": 2, "train": 16}


def test_a_formula_that_cannot_be_drawn_or_looks_like_another_is_skipped_and_counted():
    kinds = itertools.cycle([["x"], [r"\frac", "{", "x"], ["x", "+"] * 4 + ["x"], ["x"] * 13, ["y"]])
    rows, skipped = drawn_formulas(2, lambda rng: next(kinds))
    assert [symbols_of(ids) for ids in rows["ids"].tolist()] == [["x"], ["y"]]
    assert skipped == {"refused by mathtext": 1, "too large": 1, "too long": 1}
    kinds = iter([["x"], ["x"], ["y"]])
    assert drawn_formulas(2, lambda rng: next(kinds))[1] == {"like an earlier one": 1}


def test_an_image_holds_the_pixels_of_mathtext_and_tells_scripts_apart():
    drawn = MathTextParser("agg").parse(r"$x_\pi$", 72, FontProperties(size=13)).image
    image = image_of(("x", "_", r"\pi"))
    assert image.sum().item() == pytest.approx(np.asarray(drawn).sum() / 255)
    # A subscript begins below the top of its letter, and a superscript above it.
    tops = [int(image_of(("x", script, "y")).nonzero()[:, 0].min()) for script in "_^"]
    assert tops[1] < tops[0]
    assert image_of((r"\frac",)) == "refused by mathtext"


@pytest.mark.parametrize("pooled", [False, True])
def test_a_step_equals_the_whole_forward_pass_and_padding_changes_nothing(rows, pooled):
    model, images, ids = writer(pooled=pooled), rows["inputs"][:3], rows["ids"][:3]
    logits = model(images, ids)
    stepped, state = model.start(images, max_new_tokens=LONGEST)
    for place in range(3):
        torch.testing.assert_close(stepped, logits[:, place])
        stepped, state = model.step(ids[:, place], state)
    turned = model.step(ids[:, 3].flip(0), state.select(torch.tensor([2, 1, 0])))[0]
    torch.testing.assert_close(turned.flip(0), logits[:, 4])
    batch = {"inputs": images, "ids": ids}
    longer = {"inputs": images, "ids": torch.nn.functional.pad(ids, (0, 3))}
    torch.testing.assert_close(model.loss(longer)["ids"], model.loss(batch)["ids"])
    assert model.count_targets(batch)["ids"] == (ids != 0).sum()


def test_the_decoder_is_the_equation_in_a_loop(rows):
    model, images, ids = writer().double(), rows["inputs"][:2].double(), rows["ids"][:2, :4]
    grid, decoder = model.encode(images), model.decoder
    lstm = torch.nn.LSTMCell(4 + 6, 6).double()
    lstm.load_state_dict(decoder.rnn.cells[0].state_dict())
    (h, c), fed = grid.final, torch.zeros(2, 6).double()
    with record_attention(model) as maps:
        logits = model(images, ids)
    for place in range(4):
        h, c = lstm(torch.cat([model.symbols(ids_before(ids)[:, place]), fed], dim=1), (h, c))
        for row in range(2):
            scores = [h[row] @ decoder.attention.project_key.weight @ vector for vector in grid.states[row]]
            weights = [score.exp() / sum(other.exp() for other in scores) for score in scores]
            torch.testing.assert_close(maps["decoder.attention"][row, 0, place], torch.stack(weights))
            context = sum(weight * vector for weight, vector in zip(weights, grid.states[row], strict=True))
            fed = fed.clone()
            fed[row] = torch.tanh(decoder.combine.weight @ torch.cat([context, h[row]]))
        torch.testing.assert_close(logits[:, place], model.output(fed))
    assert grid.states.shape == (2, ROWS * COLUMNS, 8)


def test_the_rows_of_the_grid_are_torchs_lstm_over_each_row_alone(rows):
    model, images = writer(), rows["inputs"][:2]
    lstm = torch.nn.LSTM(8, 4, bidirectional=True, batch_first=True)
    names = [f"{name}_l0{end}" for end in ("", "_reverse") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    lstm.load_state_dict(dict(zip(names, model.line.parameters(), strict=True)))
    features = model.cnn(images[:, None]).transpose(1, 3).transpose(1, 2) + model.rows_and_columns[ROWS:]
    states = model.encode(images).states.reshape(2, ROWS, COLUMNS, 8)
    for row in range(ROWS):
        torch.testing.assert_close(states[:, row], lstm(features[:, row] + model.rows_and_columns[row])[0])


def test_the_rival_sees_the_mean_alone(rows):
    torch.testing.assert_close(
        writer(pooled=True).encode(rows["inputs"]).states, writer().encode(rows["inputs"]).states.mean(1, keepdim=True)
    )


def test_formulas_are_compared_by_their_images_too(rows):
    right = [symbols_of(ids) for ids in rows["ids"].tolist()]
    assert drawn_again(right, rows["inputs"]) == {"alike": 1.0, "refused": 0.0}
    found = [["{", "x", "}"], ["{"], [], ["y"]]
    images = torch.stack([image_of(("x",))] * 4)
    assert drawn_again(found, images) == {"alike": 0.25, "refused": 0.25}
