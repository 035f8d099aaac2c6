"""Norms and activations that compute their own gradients, against torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from minitransformer.activations import gelu_tanh
from minitransformer.kernels.gelu import _SigmoidGELU
from minitransformer.kernels.rms_norm import _RMSNorm
from minitransformer.norms import RMSNorm
from minitransformer.positions import Rotary


def heads_of_a_projection():
    """As queries lie in memory: no view of them has one row a vector."""
    return torch.randn(3, 5, 4, 6).transpose(1, 2)


@pytest.mark.parametrize("make", [lambda: torch.randn(3, 5, 6), heads_of_a_projection])
def test_rmsnorm_equals_torchs_with_gradients(make):
    ours, theirs = RMSNorm(6, eps=1e-3), torch.nn.RMSNorm(6, eps=1e-3)
    with torch.no_grad():
        ours.weight += torch.randn(6)
        theirs.weight.copy_(ours.weight)
    x = make()
    one, other = x.detach().requires_grad_(), x.detach().requires_grad_()
    upstream = torch.randn_like(x)
    ours(one).backward(upstream)
    theirs(other).backward(upstream)
    torch.testing.assert_close(ours(one), theirs(other), rtol=0, atol=1e-5)
    torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_gradients_of_gradients_are_right():
    x, weight = torch.randn(4, 6).double().requires_grad_(), torch.randn(6).double().requires_grad_()
    rotary, places = Rotary(6), torch.arange(4)[None]
    for function, inputs in (
        (lambda x, w: _RMSNorm.apply(x, w, 1e-3), (x, weight)),
        (_SigmoidGELU.apply, (x,)),
        (lambda x: rotary.rotate(x[None, None], places), (x,)),
    ):
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("size", [10, 5000])
def test_gelu_equals_torchs_at_every_size_with_and_without_gradients(size):
    x = (4 * torch.randn(size)).requires_grad_()
    expected = F.gelu(x, approximate="tanh")
    (slopes,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(gelu_tanh(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(gelu_tanh(x).sum(), x)[0], slopes, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(gelu_tanh(x), expected, rtol=0, atol=1e-6)


def test_gelu_in_bfloat16_is_rounded_once():
    x = torch.linspace(-9, 9, 300_000).bfloat16().view(3, -1).mT.requires_grad_()  # in several pieces, strides and all
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    (slopes,) = torch.autograd.grad(expected.sum(), exact)
    output = gelu_tanh(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert "_HalfGELU" in str(output.grad_fn)
    for ours, whole in ((output, expected), (gradient, slopes)):
        # Half a unit in the last of bfloat16's 8 bits, with a little for float32's own rounding near zero.
        assert ((ours.double() - whole).abs() <= 2.0**-8 * 1.01 * whole.abs() + 1e-6).all()
