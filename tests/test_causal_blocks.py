"""Causal attention by blocks of queries, against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from minitransformer.attention import attention
from minitransformer.kernels import causal_attention as causal_blocks
from minitransformer.kernels.causal_attention import causal_attention


def random_heads(batch, heads, length, head_dim, value_dim, dtype=torch.float64):
    """As a layer hands them over: heads side by side in memory, not one after another."""
    return [
        torch.randn(batch, length, heads, size, dtype=dtype).transpose(1, 2).requires_grad_()
        for size in (head_dim, head_dim, value_dim)
    ]


def outputs_and_gradients(function, inputs, direction):
    output = function(*inputs)
    return output, *torch.autograd.grad(output, inputs, direction)


@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    length=st.sampled_from([1, 2, 63, 64, 65, 130, 257, 300]),
    head_dim=st.integers(1, 5),
    value_dim=st.integers(1, 5),
    scale=st.sampled_from([0.1, 1.0]),
)
def test_outputs_and_gradients_equal_torchs(batch, heads, length, head_dim, value_dim, scale):
    inputs = random_heads(batch, heads, length, head_dim, value_dim)
    direction = torch.randn(batch, heads, length, value_dim, dtype=torch.float64)
    ours = outputs_and_gradients(lambda *qkv: causal_attention(*qkv, scale=scale), inputs, direction)
    theirs = outputs_and_gradients(
        lambda *qkv: F.scaled_dot_product_attention(*qkv, is_causal=True, scale=scale), inputs, direction
    )
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-10)


def test_gradients_of_gradients(monkeypatch):
    monkeypatch.setattr(causal_blocks, "_block_size", lambda length: 2)
    inputs = random_heads(2, 2, 5, 3, 2)
    assert gradcheck(lambda *qkv: causal_attention(*qkv, scale=0.5), inputs)
    assert gradgradcheck(lambda *qkv: causal_attention(*qkv, scale=0.5), inputs)


@pytest.mark.parametrize("length", [65, 200])
def test_attention_is_the_same_with_and_without_a_gradient(length):
    inputs = random_heads(2, 3, length, 8, 8, torch.float32)
    with torch.no_grad():
        plain = attention(*inputs, causal=True)
    trained = attention(*inputs, causal=True)
    assert "_Blocks" in str(trained.grad_fn)
    torch.testing.assert_close(trained, plain, rtol=0, atol=1e-5)


def test_under_autocast_products_are_in_bfloat16_and_gradients_in_the_inputs_type():
    inputs = random_heads(2, 3, 100, 8, 8, torch.float32)
    exact = outputs_and_gradients(
        lambda *qkv: causal_attention(*qkv, scale=0.3), inputs, direction := torch.randn(2, 3, 100, 8)
    )
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(*inputs, causal=True, scale=0.3)
    assert output.dtype == torch.bfloat16
    gradients = torch.autograd.grad(output, inputs, direction.bfloat16())
    for rounded, whole in zip((output, *gradients), exact, strict=True):
        assert (rounded.float() - whole).norm() < 0.02 * whole.norm()
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_autocast_leaves_float64_alone_and_a_batch_may_be_empty():
    inputs = random_heads(2, 3, 80, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention(*inputs, causal=True), causal_attention(*inputs))
    assert attention(*random_heads(0, 3, 80, 8, 8), causal=True).shape == (0, 3, 80, 8)
