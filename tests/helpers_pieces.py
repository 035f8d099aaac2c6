"""What the tests of masks, positions, attention, caches and blocks share."""

import pytest
import torch
from hypothesis import settings

from minitransformer import ALiBi, RelativeBias, Rotary

# Tests that draw their examples: the same ones in every run, and no clock, for machines differ.
few_examples = settings(max_examples=25, derandomize=True, database=None)


def assert_near(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def assert_same_with_gradients(ours, theirs, pairs, *, tolerance=1e-10):
    """Two outputs agree, and so do their gradients with respect to each pair of tensors (ours, theirs)."""
    assert_near(ours, theirs, tolerance)
    cotangent = torch.randn_like(ours)
    our_gradients = torch.autograd.grad(ours, [pair[0] for pair in pairs], cotangent, retain_graph=True)
    their_gradients = torch.autograd.grad(theirs, [pair[1] for pair in pairs], cotangent, retain_graph=True)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        assert_near(our_gradient, their_gradient, tolerance)


def leaves(*shapes, dtype=torch.float64):
    """Random tensors that want gradients."""
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def uneven_valid(lengths, width, *, left=False):
    """Rows of `lengths` real tokens, padded to `width` on the right or on the left."""
    slots = torch.arange(width).flip(0) if left else torch.arange(width)
    return slots[None] < torch.tensor(lengths)[:, None]


def places(valid):
    """A token's position: how many real tokens stand before it in its row."""
    return (valid.long().cumsum(dim=1) - 1).clamp(min=0)


def scheme(name, num_heads, head_dim):
    """Positions that act inside causal attention."""
    return {
        "none": lambda: None,
        "rotary": lambda: Rotary(head_dim),
        "alibi": lambda: ALiBi(num_heads),
        "relative": lambda: RelativeBias(num_heads, num_buckets=6, max_distance=5, bidirectional=False),
    }[name]()


every_scheme = pytest.mark.parametrize("name", ["none", "rotary", "alibi", "relative"])


def copy_by_name(ours, theirs, renamed):
    """Make every parameter of theirs random, for torch starts biases at 0 and norms at 1, and copy it into ours.

    `renamed` holds what to replace in our names, in order. Returns the pairs of parameters (ours, theirs).
    """
    named, pairs = dict(theirs.named_parameters()), []
    for name, parameter in ours.named_parameters():
        for our_part, their_part in renamed.items():
            name = name.replace(our_part, their_part)
        pairs.append((parameter, named.pop(name)))
    assert not named, f"parameters without a counterpart: {list(named)}"
    with torch.no_grad():
        for our_parameter, their_parameter in pairs:
            our_parameter.copy_(their_parameter.normal_(std=0.5))
    return pairs
