"""Residual attention: its equation, the paper's sizes, the canvases."""

import numpy as np
import pytest
import torch
from helpers_applications import refusal, run

from minitransformer.errors import InputError
from train.applications import residual_attention
from train.applications.residual_attention import (
    AttentionModule,
    Hourglass,
    ResidualAttention,
    ResidualAttentionConfig,
    canvases,
)


def made_up_digits(count=20):
    """Low bars and high ones."""
    images, labels = np.zeros((count, 28, 28), np.uint8), np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        image[5 : 8 + 12 * label, 5:23] = 255
    return images, labels


def test_a_tiny_run_learns_and_draws(tmp_path, monkeypatch):
    rows = made_up_digits()
    monkeypatch.setattr(residual_attention, "digits", lambda: dict.fromkeys(("train", "validation", "test"), rows))
    flags = ["--steps", "6", "--width", "8", "--lr", "0.03", "--batch-size", "10"]
    run(residual_attention, tmp_path / "run", *flags, rivals=1)


@pytest.mark.parametrize(("modules", "millions"), [((1, 1, 1), 31.81), ((1, 2, 3), 52.47)])
def test_the_papers_networks_have_the_papers_sizes(modules, millions):
    config = ResidualAttentionConfig(modules=modules, colours=3, num_labels=1000, pooled_stem=True)
    with torch.device("meta"):
        assert round(ResidualAttention(config).num_parameters() / 1e6, 2) == millions


def test_the_residual_network_is_as_large_within_two_percent():
    sizes = [
        ResidualAttention(ResidualAttentionConfig(64, (3,), (2,), branches=branches)).num_parameters()
        for branches in ("(1+M)T", "MT", "none")
    ]
    assert sizes[0] == sizes[1] == pytest.approx(sizes[2], rel=0.02)


@pytest.mark.parametrize(("branches", "least"), [("(1+M)T", 1), ("MT", 0)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_of_zeros_or_ones_gives_the_trunk_so_many_times(branches, least, value):
    """M = 0 gives T(x), or with M·T nothing; M = 1 gives 2 T(x), or T(x)."""
    module = AttentionModule(8, 1, branches).eval()
    module.mask.register_forward_hook(lambda module, inputs, output: torch.full_like(output, value))
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(module(x), module.after((least + value) * module.trunk(module.before(x))))


def test_a_module_equals_its_equation_in_a_float64_loop():
    torch.manual_seed(0)
    module = AttentionModule(4, 1, "(1+M)T").double().eval()
    module.after = torch.nn.Identity()
    x = torch.randn(1, 4, 4, 4).double()
    before = module.before(x)
    norm, _, first, norm2, _, second, _ = module.mask[1:]
    low, trunk, shrink = module.mask[0](before), module.trunk(before), (1 + norm.eps) ** -0.5
    for row in range(4):
        for column in range(4):
            inner = first.weight[:, :, 0, 0] @ (low[0, :, row, column] * shrink).clamp(min=0)
            scores = second.weight[:, :, 0, 0] @ (inner * (1 + norm2.eps) ** -0.5).clamp(min=0)
            wanted = (1 + 1 / (1 + torch.exp(-scores))) * trunk[0, :, row, column]
            torch.testing.assert_close(module(x)[0, :, row, column], wanted)


def test_first_and_second_gradients_of_a_module_are_right():
    torch.manual_seed(0)
    module = AttentionModule(4, 1, "(1+M)T").double().eval()
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(module, x, fast_mode=True)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (8, 8)])
def test_an_hourglass_has_3n_minus_1_units_and_keeps_any_size(height, width):
    units = [type(module).__name__ for module in Hourglass(4, 3).modules()].count("ResidualUnit")
    assert units == 3 * 3 - 1
    assert Hourglass(4, 3)(torch.randn(2, 4, height, width)).shape == (2, 4, height, width)


def test_canvases_show_the_digit_and_a_share_of_noisy_labels_is_wrong():
    images, labels = made_up_digits(1000)
    rows = canvases(images, labels, pieces=2, noise=0.4, seed=0)
    assert torch.equal(rows["labels"], torch.from_numpy(labels))
    assert (rows["noisy"] != rows["labels"]).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert rows["noisy"].min() >= 0 and rows["noisy"].max() <= 9
    patches = rows["images"].unfold(2, 20, 1).unfold(3, 20, 1)[:20, 0]
    for place in range(20):
        digit = torch.from_numpy(images[place, 4:24, 4:24]) / 255
        assert (patches[place] >= digit).flatten(2).all(2).any()
    assert torch.equal(canvases(images, labels, pieces=2, noise=0.4, seed=0)["images"], rows["images"])


def test_sizes_that_do_not_divide_are_refused(tmp_path, capsys):
    line = refusal(residual_attention.main, "--width 30", tmp_path / "run", capsys)
    assert line == "error: --width 30 is not divisible by 4: a unit works in a quarter of its channels"
    with pytest.raises(InputError, match=r"modules=\(1,\) and poolings=\(1, 2\)"):
        ResidualAttentionConfig(8, (1,), (1, 2))
