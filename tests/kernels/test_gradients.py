"""Every kernel, first and second gradients: by differences in float64, and whatever is handed in twice or frozen."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from minitransformer import attention, kernels, padding_mask
from minitransformer.kernels.dropout import dropout
from minitransformer.kernels.fused_attention import fused_attention
from minitransformer.kernels.output_loss import output_loss

MASK = padding_mask(torch.tensor([[True, True, False], [False, False, False]]))


def repeated(x):
    torch.manual_seed(0)
    return dropout(x, 0.4)


def in_chunks(states, weight):
    """Of two rows, and of one."""
    return output_loss(states, weight, torch.tensor([6, 0, 6]), most_logits=2 * 64)


# A kernel, and the shapes of what it takes.
KERNELS = {
    "dropout": (repeated, [(11,)]),
    "fused_attention": (lambda *qkv: fused_attention(*qkv, MASK), [(2, 4, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2)]),
    "output_loss": (in_chunks, [(3, 2), (7, 2)]),
}


@pytest.mark.parametrize("name", KERNELS)
def test_first_and_second_gradients_are_right(name):
    kernel, shapes = KERNELS[name]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    # With each input frozen in turn, too: there is no gradient for it.
    for frozen in [None, *range(len(inputs))] if len(inputs) > 1 else [None]:
        given = [x.detach() if place == frozen else x for place, x in enumerate(inputs)]
        assert gradcheck(kernel, given)
        assert gradgradcheck(kernel, given)


def test_these_are_all_kernels_with_gradients():
    assert {*KERNELS} == kernels.NAMES - {"gpt_step", "gpt_graph", "skinny_linear"}


@pytest.mark.parametrize(("causal", "length"), [(True, 70), (False, 100)])
def test_one_tensor_handed_in_three_times_gets_each_gradient_once(causal, length):
    def gradients():
        first = torch.autograd.grad(attention(x, x, x, causal=causal).square().sum(), x, create_graph=True)[0]
        return first, torch.autograd.grad(first.square().sum(), x)[0]

    x = torch.randn(1, 2, length, 3, dtype=torch.float64, requires_grad=True)
    fast = gradients()
    with kernels.disabled():
        plain = gradients()
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_of_many_directions_at_once_equal_one_by_one(name):
    """`is_grads_batched` runs the backward pass under vmap."""
    kernel, shapes = KERNELS[name]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    directions = torch.randn(3, *kernel(*inputs).shape, dtype=torch.float64)
    many = torch.autograd.grad(kernel(*inputs), inputs, directions, is_grads_batched=True)
    one_by_one = [torch.autograd.grad(kernel(*inputs), inputs, direction) for direction in directions]
    for ours, single in zip(many, zip(*one_by_one, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(single), rtol=0, atol=1e-10)
