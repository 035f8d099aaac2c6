import pytest
import torch

from minitransformer.dropout import Dropout, dropout


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1000,)])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_every_number_is_zero_or_scaled_by_one_over_the_share_that_stays_and_so_is_its_gradient(p, shape):
    x = torch.randn(shape, requires_grad=True)
    y = dropout(x, p)
    assert ((y == 0) | torch.isclose(y, x / (1 - p), rtol=1e-4)).all()  # p in steps of 1 / 65,536
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
