"""Attention gates: their equation, the scenes, the rivals."""

import math
import random

import pytest
import torch
from helpers_applications import refusal, run

from train.applications import attention_unet
from train.applications.attention_unet import (
    LOOK_ALIKES,
    AttentionGate,
    UNet,
    UNetConfig,
    arrangement,
    as_large,
    soft_dice,
)

SMALL = UNetConfig(channels=2, bottom=8)


def test_a_tiny_run_learns_and_draws(tmp_path):
    flags = ["--steps", "6", "--images", "12", "--size", "32", "--channels", "2", "--batch-size", "4"]
    run(attention_unet, tmp_path / "run", *flags, "--evaluations", "2", "--lr", "0.03", rivals=1)


def test_a_gate_equals_its_equation_in_a_float64_loop():
    torch.manual_seed(0)
    gate = AttentionGate(3, 5).double().eval()
    x, signal = torch.randn(2, 3, 4, 6).double(), torch.randn(2, 5, 2, 3).double()
    found, alpha = gate(x, signal)
    coarse = torch.empty(2, 1, 2, 3).double()
    for image in range(2):
        for row in range(2):
            for column in range(3):
                q = gate.score.bias[0]
                for unit in range(3):
                    patch = x[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                    sum_ = (gate.project_x.weight[unit] * patch).sum() + gate.project_signal.bias[unit]
                    sum_ = sum_ + gate.project_signal.weight[unit, :, 0, 0] @ signal[image, :, row, column]
                    q = q + gate.score.weight[0, unit, 0, 0] * sum_.clamp(min=0)
                coarse[image, 0, row, column] = 1 / (1 + torch.exp(-q))
    fine = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(alpha, fine)
    # An untrained batch norm in evaluation mode divides by the root of 1 + eps.
    torch.testing.assert_close(found, gate.output[0](fine * x) / math.sqrt(1 + gate.output[1].eps))


def test_first_and_second_gradients_of_a_gate_are_right():
    torch.manual_seed(0)
    gate = AttentionGate(2, 3).double().eval()
    x = torch.randn(1, 2, 2, 4, dtype=torch.float64, requires_grad=True)
    signal = torch.randn(1, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, (x, signal), fast_mode=True)
    assert torch.autograd.gradgradcheck(gate, (x, signal), fast_mode=True)


def test_open_gates_hand_over_the_whole_skip_and_shut_gates_nothing():
    gate = AttentionGate(3, 5).eval()
    x, signal = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    torch.nn.init.zeros_(gate.score.weight)
    for bias, share in ((100.0, 1.0), (-200.0, 0.0)):
        torch.nn.init.constant_(gate.score.bias, bias)
        torch.testing.assert_close(gate(x, signal)[0], gate.output(share * x))


def test_a_shuffled_signal_is_that_of_another_image_and_reaches_the_gates_alone():
    torch.manual_seed(0)
    model, images = UNet(SMALL).eval(), torch.rand(2, 1, 16, 16)
    other = UNet(UNetConfig(channels=2, bottom=8, skips="shuffled")).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.levels(images), model.levels(images, shuffled=True))
    assert not torch.equal(other.levels(images)[1][0], model.levels(images)[1][0])
    # An image beside a copy of itself has its own signal.
    same = images[:1].expand(2, -1, -1, -1)
    torch.testing.assert_close(other(same), model(same))
    for gate in model.gates:
        torch.nn.init.zeros_(gate.project_signal.weight)
    torch.testing.assert_close(model.levels(images), model.levels(images, shuffled=True))


@pytest.mark.parametrize("skips", ["open", "none"])
def test_rivals_without_gates_have_as_many_parameters(skips):
    gated = UNetConfig(channels=8, bottom=32)
    wanted, rival = UNet(gated).num_parameters(), UNet(as_large(gated, skips))
    assert wanted <= rival.num_parameters() < 1.02 * wanted
    assert not rival.gates


def test_without_skips_the_image_reaches_the_output_through_the_lowest_level_alone():
    model = UNet(UNetConfig(channels=2, bottom=8, skips="none")).eval()
    model.down[-1].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(model(images), model(1 - images))


def test_the_target_alone_lies_right_of_the_ring():
    rng = random.Random(0)
    for _ in range(50):
        ring, target, *alike = arrangement(rng)
        assert len(alike) == LOOK_ALIKES

        def is_right(place, ring=ring):
            angle = math.degrees(math.atan2(place[1] - ring[1], place[0] - ring[0]))
            return math.dist(place, ring) < 24 and abs(angle) < 45

        assert is_right(target) and not any(map(is_right, alike))


def test_dice_is_twice_the_overlap_over_both_sizes_with_one_added():
    found = torch.tensor([[[[1.0, 1.0, 0.0]]], [[[0.0, 0.0, 0.0]]]])
    target = torch.tensor([[[[0, 1, 1]]], [[[0, 0, 0]]]], dtype=torch.bool)
    torch.testing.assert_close(soft_dice(found, target), torch.tensor([3 / 5, 1.0]))


def test_a_size_that_does_not_halve_three_times_is_refused(tmp_path, capsys):
    line = refusal(attention_unet.main, "--size 36", tmp_path / "run", capsys)
    assert line == "error: --size 36 is not divisible by 8: it is halved 3 times"
