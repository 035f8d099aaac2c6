"""`torch.func` over blocks (gradients of single examples, Jacobians, Hessians) against autograd, row by row."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

from minitransformer import DecoderBlock, EncoderBlock, Rotary, padding_mask

BATCH, LENGTH, D_MODEL, D_FF = 3, 70, 16, 64  # large enough for the kernels of causal attention
BLOCKS = {
    "layernorm": lambda: EncoderBlock(D_MODEL, 2, D_FF),
    "rmsnorm": lambda: EncoderBlock(D_MODEL, 2, D_FF, pre_norm=True, norm="rmsnorm", qk_norm=True),
    "rotary": lambda: EncoderBlock(D_MODEL, 2, D_FF, positions=Rotary(D_MODEL // 2), num_kv_heads=1),
    "causal": lambda: EncoderBlock(D_MODEL, 2, D_FF, causal=True),
    "decoder": lambda: DecoderBlock(D_MODEL, 2, D_FF, norm="rmsnorm", qk_norm=True),
}
every_block = pytest.mark.parametrize("name", BLOCKS)


def made(name, length=LENGTH):
    block = BLOCKS[name]()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    valid = torch.arange(length)[None] < torch.tensor([[length], [length // 2], [length - 1]])
    memory = (torch.randn(BATCH, length, D_MODEL),) if name == "decoder" else ()
    return block, (torch.randn(BATCH, length, D_MODEL), *memory), valid


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@every_block
def test_gradients_of_single_examples_equal_autograd_row_by_row(name):
    block, inputs, valid = made(name)
    parameters = dict(block.named_parameters())

    def loss(parameters, valid, *inputs):
        options = {"mask": padding_mask(valid[None])}
        output = functional_call(block, parameters, tuple(x[None] for x in inputs), options)
        return output.square().mean()

    together = vmap(grad(loss), (None, *[0] * (1 + len(inputs))))(parameters, valid, *inputs)
    for row in range(BATCH):
        arguments = valid[row], *(x[row] for x in inputs)
        alone = grad(loss)(parameters, *arguments)
        expected = torch.autograd.grad(loss(parameters, *arguments), list(parameters.values()))
        for key, gradient in zip(parameters, expected, strict=True):
            assert_close(together[key][row], gradient)
            assert_close(alone[key], gradient)


@every_block
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_equal_autograd_output_by_output(name, jacobian):
    block, (states, *memory), _ = made(name)
    states, memory = states[:1], [x[:1] for x in memory]

    def first_numbers(x):
        return block(x, *memory)[0, -1, :3]

    x = states.clone().requires_grad_()
    expected = [torch.autograd.grad(number, x, retain_graph=True)[0] for number in first_numbers(x)]
    assert_close(jacobian(first_numbers)(states), torch.stack(expected))


@every_block
def test_a_hessian_equals_autograds(name):
    block, inputs, _ = made(name, length=2)
    states, *memory = (x[:1] for x in inputs)

    def loss(x):
        return block(x, *memory).sin().sum()

    expected = torch.autograd.functional.hessian(loss, states)
    assert_close(hessian(loss)(states), expected)
    assert_close(jacrev(jacrev(loss))(states), expected)


def test_dropout_draws_for_each_example_under_vmap():
    block = EncoderBlock(D_MODEL, 2, D_FF, dropout=0.5).train()
    same = torch.randn(1, LENGTH, D_MODEL).expand(2, 1, LENGTH, D_MODEL)
    parameters = dict(block.named_parameters())

    def loss(parameters, x):
        return functional_call(block, parameters, (x,)).square().mean()

    gradients = vmap(grad(loss), (None, 0), randomness="different")(parameters, same)
    weight = gradients["feed_forward.expand.weight"]
    assert weight.isfinite().all() and not torch.equal(weight[0], weight[1])
