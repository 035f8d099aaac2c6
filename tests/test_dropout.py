import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.dropout import Dropout, dropout


@given(p=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]), shape=st.sampled_from([(7,), (3, 5), (2, 3, 4)]))
def test_every_number_is_zero_or_scaled_by_one_over_the_share_that_stays(p, shape):
    x = torch.randn(shape)
    scale = 1 / (1 - round(p * 65536) / 65536)
    y = dropout(x, p)
    assert ((y == 0) | torch.isclose(y, x * scale)).all()


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


def test_gradients_pass_where_numbers_stayed():
    x = torch.randn(1000, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


def test_the_module_does_nothing_in_evaluation_and_repeats_itself_by_seed():
    module, x = Dropout(0.4), torch.randn(5, 5)
    assert module.eval()(x) is x
    module.train()
    torch.manual_seed(3)
    first = module(x)
    torch.manual_seed(3)
    assert torch.equal(first, module(x))
    assert torch.equal(Dropout(1.0)(x), torch.zeros(5, 5))
