"""Attention on a GPU against the formula in float64 on the CPU: every kind of mask in every type."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from minitransformer import (
    attention,
    attention_weights,
    causal_mask,
    document_mask,
    kernels,
    padding_mask,
    sliding_window_mask,
)

BATCH, HEADS, HEAD_DIM, LENGTH = 3, 4, 64, 70
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def padding():
    """A row that is all real, one padded on both sides, one without anything real."""
    valid = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    valid[0], valid[1, 3:-5] = True, True
    return padding_mask(valid)


def documents():
    return document_mask(torch.randint(3, (BATCH, LENGTH)))


# Queries, and what attention is given beside queries, keys and values.
KINDS = {
    "nothing": (LENGTH, dict),
    "causal": (LENGTH, lambda: {"causal": True}),
    "causal, fewer queries": (9, lambda: {"causal": True}),
    "one query": (1, lambda: {"causal": True}),
    "causal mask": (LENGTH, lambda: {"mask": causal_mask(LENGTH)}),
    "padding": (LENGTH, lambda: {"mask": padding()}),
    "padding, causal": (LENGTH, lambda: {"mask": padding(), "causal": True}),
    "window": (LENGTH, lambda: {"mask": sliding_window_mask(LENGTH, LENGTH, 8)}),
    "documents, causal": (LENGTH, lambda: {"mask": documents(), "causal": True}),
    "bias": (LENGTH, lambda: {"bias": torch.randn(1, HEADS, LENGTH, LENGTH)}),
    "bias, padding, causal": (
        LENGTH,
        lambda: {"bias": torch.randn(1, HEADS, LENGTH, LENGTH), "mask": padding(), "causal": True},
    ),
}


def with_gradients(device, dtype, inputs, options, cotangent):
    """Output, and the gradients of queries, keys, values and the bias."""
    given = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    leaves = [x.to(device, dtype).requires_grad_() for x in inputs]
    if "bias" in given:
        given["bias"] = given["bias"].detach().to(dtype).requires_grad_()
        leaves.append(given["bias"])
    output = attention(*leaves[:3], **given)
    return output, *torch.autograd.grad(output, leaves, cotangent.to(device, dtype))


def assert_relatively_near(found, exact, tolerance):
    for one, other in zip(found, exact, strict=True):
        assert one.isfinite().all()
        assert (one.detach().cpu().double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_attention_and_its_gradients_equal_the_formula_in_float64(kind, dtype, kv_heads):
    queries, options = KINDS[kind][0], KINDS[kind][1]()
    shapes = [(BATCH, heads, length, HEAD_DIM) for heads, length in ((HEADS, queries), *[(kv_heads, LENGTH)] * 2)]
    inputs = [torch.randn(shape).to(dtype) for shape in shapes]  # rounded once, for both sides
    if "bias" in options:
        options["bias"] = options["bias"].to(dtype)
    cotangent = torch.randn(shapes[0]).to(dtype)
    with kernels.disabled():
        exact = with_gradients("cpu", torch.float64, inputs, options, cotangent)
    assert_relatively_near(with_gradients("cuda", dtype, inputs, options, cotangent), exact, TOLERANCE[dtype])
    with kernels.disabled():
        assert_relatively_near(with_gradients("cuda", dtype, inputs, options, cotangent), exact, 4 * TOLERANCE[dtype])


@pytest.mark.parametrize("kind", ["padding", "padding, causal"])
def test_a_query_that_may_attend_to_nothing_gets_zeros(kind):
    query, key, value = (torch.randn(BATCH, HEADS, LENGTH, HEAD_DIM, device="cuda") for _ in range(3))
    options = {name: value.cuda() if name == "mask" else value for name, value in KINDS[kind][1]().items()}
    assert not attention(query, key, value, **options)[2].any()
    assert not attention_weights(query, key, **options)[2].any()


def test_causal_attention_in_bfloat16_may_run_in_flash_attention():
    inputs = [torch.randn(2, HEADS, 128, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error if it cannot
        output = attention(*[x.requires_grad_() for x in inputs], causal=True)
        output.sum().backward()
    assert all(x.grad.isfinite().all() for x in inputs)


def test_dropout_keeps_the_mean():
    query, key = (torch.randn(8, HEADS, 64, HEAD_DIM, device="cuda") for _ in range(2))
    ones = torch.ones(8, HEADS, 64, HEAD_DIM, device="cuda")
    dropped = attention(query, key, ones, dropout=0.5)
    assert dropped.std() > 0.01 and abs(dropped.mean() - 1) < 0.02
    assert torch.allclose(attention(query, key, ones, dropout=0.0), ones)
