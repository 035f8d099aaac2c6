"""The loss of an output layer, chunk by chunk, against the formula."""

import pytest
import torch
import torch.nn.functional as F
from helpers_models import assert_close
from torch import nn

from minitransformer.kernels import output_loss
from minitransformer.models.base import target_loss

ROWS, VOCAB, WIDTH = 9, 70, 6


def layer_and_batch():
    return nn.Linear(WIDTH, VOCAB, bias=False), torch.randn(ROWS, WIDTH), torch.randint(VOCAB, (ROWS,))


@pytest.mark.parametrize("most_logits", [1, 4 * 128, 1 << 20], ids=["a row", "4 rows, the last of 1", "all rows"])
@pytest.mark.parametrize("cast", [False, True], ids=["float32", "autocast"])
def test_the_loss_and_its_gradients_are_those_of_the_formula(most_logits, cast):
    layer, states, targets = layer_and_batch()

    def both(loss_of):
        x = states.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            loss = loss_of(x)
        return loss, *torch.autograd.grad(loss / ROWS, [x, layer.weight])

    ours = both(lambda x: output_loss.output_loss(x, layer.weight, targets, most_logits=most_logits))
    formula = both(lambda x: target_loss(layer(x), targets))
    for one, other in zip(ours, formula, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).norm() <= (1e-2 if cast else 1e-6) * other.norm()


def test_a_loss_of_no_targets_is_zero_and_one_without_gradients_keeps_none():
    layer, states, targets = layer_and_batch()
    loss = output_loss.output_loss(states[:0].requires_grad_(), layer.weight, targets[:0])
    assert loss == 0 and not any(gradient.any() for gradient in torch.autograd.grad(loss, [layer.weight]))
    with torch.no_grad():
        loss = output_loss.output_loss(states, layer.weight, targets)
    assert not loss.requires_grad
    assert_close(loss, F.cross_entropy(layer(states), targets, reduction="sum").detach())


@pytest.mark.parametrize("frozen", ["states", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen):
    layer, states, targets = layer_and_batch()
    states.requires_grad_(frozen != "states")
    layer.requires_grad_(frozen != "weight")
    output_loss.output_loss(states, layer.weight, targets).backward()
    assert (states.grad is None) == (frozen == "states") and (layer.weight.grad is None) == (frozen == "weight")
