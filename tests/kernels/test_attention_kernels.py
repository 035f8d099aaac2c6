"""The kernels of attention against torch's own, and what they do under autocast and checkpoints."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from minitransformer import attention, padding_mask


def random_heads(batch, heads, length, head_dim, value_dim, dtype=torch.float64):
    """As a layer hands them over: heads side by side in memory, not one after another."""
    return [
        torch.randn(batch, length, heads, size, dtype=dtype).transpose(1, 2).requires_grad_()
        for size in (head_dim, head_dim, value_dim)
    ]


def outputs_and_gradients(function, inputs, direction):
    output = function(*inputs)
    return output, *torch.autograd.grad(output, inputs, direction)


# Tokens enough for the fused kernel in each type.
LONG = [(True, 100, torch.float32), (False, 100, torch.float32), (False, 600, torch.bfloat16)]


@pytest.mark.parametrize(("causal", "length", "cast"), LONG)
def test_under_autocast_outputs_are_in_its_type_and_gradients_in_the_inputs(causal, length, cast):
    inputs = random_heads(2, 3, length, 8, 8, torch.float32)
    direction = torch.randn(2, 3, length, 8)
    exact = outputs_and_gradients(lambda *qkv: attention(*qkv, causal=causal), inputs, direction)
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(*inputs, causal=causal)
    assert output.dtype == torch.bfloat16
    gradients = torch.autograd.grad(output, inputs, direction.bfloat16())
    for rounded, whole in zip((output, *gradients), exact, strict=True):
        assert (rounded.float() - whole).norm() < 0.02 * whole.norm()
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_autocast_leaves_float64_alone_and_a_batch_may_be_empty():
    inputs = random_heads(2, 3, 80, 8, 8)
    exact = attention(*inputs, causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention(*inputs, causal=True), exact)
    assert attention(*random_heads(0, 3, 80, 8, 8), causal=True).shape == (0, 3, 80, 8)


@pytest.mark.parametrize("causal", [True, False])
def test_a_checkpoint_and_a_second_backward_pass_give_the_same_gradients(causal):
    inputs = random_heads(2, 3, 110, 4, 4)
    mask = None if causal else padding_mask(torch.arange(110)[None] < torch.tensor([[110], [70]]))

    def attend(*qkv):
        return attention(*qkv, mask, causal=causal).square().sum()

    expected = torch.autograd.grad(attend(*inputs), inputs)
    loss = attend(*inputs)
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    for found in (first, torch.autograd.grad(loss, inputs)):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    recomputed = torch.autograd.grad(checkpoint(attend, *inputs, use_reentrant=False), inputs)
    assert all(map(torch.equal, recomputed, expected))
