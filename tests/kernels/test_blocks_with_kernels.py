"""Blocks with kernels on and off: the same outputs, first and second gradients."""

import pytest
import torch
from torch import nn

from minitransformer import DecoderBlock, EncoderBlock, Rotary, kernels, padding_mask

VALID = torch.arange(110)[None] < torch.tensor([[110], [80]])
STATES = (2, 110, 32)  # large enough for every kernel

BLOCKS = {
    "encoder": (lambda: EncoderBlock(32, 4, 64), {"mask": padding_mask(VALID)}, {"fused_attention"}),
    "causal": (lambda: EncoderBlock(32, 4, 64, causal=True), {}, {"fused_attention"}),
    "modern": (
        lambda: EncoderBlock(32, 4, 64, causal=True, norm="rmsnorm", pre_norm=True, positions=Rotary(8), qk_norm=True),
        {},
        {"fused_attention"},
    ),
    "decoder": (
        lambda: DecoderBlock(32, 4, 64, num_kv_heads=2, norm="rmsnorm", activation="gelu_tanh", qk_norm=True),
        {"memory": torch.ones(2, 110, 32).cumsum(1).sin(), "memory_mask": padding_mask(VALID)},
        {"fused_attention"},
    ),
    "dropout": (lambda: EncoderBlock(32, 4, 64, dropout=0.1), {}, {"dropout"}),
}
every_block = pytest.mark.parametrize("name", BLOCKS)


def made(name):
    make, options, used = BLOCKS[name]
    block = make()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block, torch.randn(STATES, requires_grad=True), options, used


def kernels_in(output):
    """The kernels whose backward passes the graph of `output` holds."""
    found, seen, waiting = set(), set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if module := getattr(getattr(node, "_forward_cls", None), "__module__", ""):
                found.add(module.removeprefix("minitransformer.kernels."))
            waiting += [after for after, _ in node.next_functions]
    return found


@every_block
def test_a_kernel_that_is_disabled_is_used_nowhere_and_the_others_are(name):
    block, states, options, used = made(name)
    assert kernels_in(block(states, **options)) == used
    for kernel in used:
        with kernels.disabled(kernel):
            assert kernels_in(block(states, **options)) == used - {kernel}
    with kernels.disabled():
        assert kernels_in(block(states, **options)) == set()


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "dropout"])  # which draws other random numbers
def test_kernels_change_neither_outputs_nor_first_and_second_gradients(name):
    block, states, options, _ = made(name)
    leaves = [states, *block.parameters()]
    directions = [torch.randn_like(leaf) for leaf in leaves]
    upstream = torch.randn(STATES)

    def outputs_and_gradients():
        output = block(states, **options)
        plain = torch.autograd.grad(output, leaves, upstream, retain_graph=True)
        first = torch.autograd.grad(output, leaves, upstream, create_graph=True)
        slope = sum((gradient * direction).sum() for gradient, direction in zip(first, directions, strict=True))
        second = torch.autograd.grad(slope, leaves, allow_unused=True, materialize_grads=True)
        return output, *plain, *first, *second

    fast = outputs_and_gradients()
    with kernels.disabled():
        formula = outputs_and_gradients()
    for ours, expected in zip(fast, formula, strict=True):
        assert (ours - expected).norm() <= 1e-5 * expected.norm() + 1e-6
