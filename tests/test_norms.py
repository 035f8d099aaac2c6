"""Norms and activations against torch's."""

from functools import partial

import pytest
import torch
from torch import nn

from minitransformer.activations import make_activation
from minitransformer.norms import RMSNorm, make_norm


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        ("layernorm", nn.LayerNorm(6, eps=1e-3)),
        ("rmsnorm", nn.RMSNorm(6, eps=1e-3)),
        (nn.LayerNorm, nn.LayerNorm(6)),
        (RMSNorm, nn.RMSNorm(6, eps=1e-5)),
        (partial(nn.RMSNorm, eps=0.5), nn.RMSNorm(6, eps=0.5)),
        (lambda size: nn.Identity(), nn.Identity()),
    ],
)
def test_a_norm_is_a_name_or_whatever_makes_one_of_a_size(make, expected):
    x = torch.randn(3, 6)
    torch.testing.assert_close(make_norm(make, 6, eps=1e-3)(x), expected(x), rtol=0, atol=1e-6)


def test_an_activation_is_a_name_a_function_a_module_or_a_module_class():
    x, shared = torch.randn(5), nn.PReLU()
    assert torch.equal(make_activation("relu")(x), x.relu())
    assert torch.equal(make_activation(torch.tanh)(x), x.tanh())
    assert torch.equal(make_activation(nn.SiLU)(x), nn.functional.silu(x))
    assert make_activation(shared) is shared
    assert make_activation(nn.PReLU) is not make_activation(nn.PReLU)  # each learns for itself
