"""The random numbers of dropout's kernel."""

import pytest
import torch

from minitransformer.kernels.dropout import dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.25, 0.7])
def test_the_share_of_zeros_and_the_mean_are_as_asked(p, dtype):
    torch.manual_seed(0)
    # Of numbers that bfloat16 cannot scale exactly, so that its roundings average out.
    x = torch.empty(200_000).uniform_(1, 2).to(dtype)
    y = dropout(x, p)
    assert y.dtype == dtype
    error = 4 * (p * (1 - p) / len(y)) ** 0.5
    assert abs((y == 0).float().mean() - p) < error
    kept = y != 0
    assert (
        abs(y[kept].double().mean() / x[kept].double().mean() * (1 - p) - 1) < 1e-3
    )  # a rounded scale is off by 1.6e-3
    assert abs(y.double().mean() / x.double().mean() - 1) < error / (1 - p)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(400_000), 0.5) == 0).view(-1, 4)
    patterns = (dropped * torch.tensor([1, 2, 4, 8])).sum(dim=1).bincount(minlength=16).double()
    expected = len(dropped) / 16
    assert ((patterns - expected) ** 2 / expected).sum() < 37.7  # chi-square, 15 degrees of freedom, p = 0.001
