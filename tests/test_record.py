import itertools

import pytest
import torch
from helpers_pieces import assert_near, leaves, places, uneven_valid
from torch import nn

from minitransformer import (
    ALiBi,
    DecoderBlock,
    EncoderBlock,
    MultiHeadAttention,
    RelativeBias,
    Rotary,
    Stack,
    padding_mask,
    record_attention,
)
from minitransformer.attention import AttentionMap


def blocks(count=2, **options):
    return Stack([EncoderBlock(8, 2, 6, **options) for _ in range(count)])


def value_heads(layer, memory):
    """The values (B, H, S, K) of a MultiHeadAttention, each shared head repeated."""
    size = layer.num_kv_heads * layer.head_dim
    bias = layer.project_in.bias[-size:]
    values = nn.functional.linear(memory, layer.project_in.weight[-size:], bias)
    values = values.unflatten(-1, (layer.num_kv_heads, layer.head_dim)).transpose(1, 2)
    return values.repeat_interleave(layer.num_heads // layer.num_kv_heads, dim=1)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize(
    "positions", [None, Rotary(2), ALiBi(4), RelativeBias(4)], ids=["none", "rotary", "alibi", "relative"]
)
def test_maps_are_what_the_kernel_used(positions, kv_heads):
    """The weights, recombined with the values and projected, are the module's own output."""
    layer = MultiHeadAttention(8, 4, num_kv_heads=kv_heads, positions=positions)
    nn.init.normal_(layer.project_in.weight, std=0.8)
    valid = uneven_valid([5, 3], 5, left=True)
    states, memory = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    for source in (states, memory):
        own = source is states
        with record_attention(layer) as maps:
            output = layer(
                states,
                None if own else memory,
                mask=padding_mask(valid),
                causal=own,
                position_ids=places(valid) if own else None,
            )
        assert maps[""].shape == (2, 4, 5, 5)
        contexts = (maps[""] @ value_heads(layer, source)).transpose(1, 2).flatten(2)
        assert_near(layer.project_out(contexts), output, 1e-5)


def test_maps_are_filed_under_the_path_of_the_attention_that_owns_them():
    model = nn.ModuleDict(
        {
            "encoder": blocks(2),
            "decoder": Stack([DecoderBlock(8, 4, 6, num_kv_heads=2) for _ in range(2)]),
        }
    )
    with record_attention(model) as maps:
        memory = model["encoder"](torch.randn(3, 5, 8))
        model["decoder"](torch.randn(3, 4, 8), memory)
    assert {path: tuple(weights.shape) for path, weights in maps.items()} == {
        "encoder.layers.0.attention": (3, 2, 5, 5),
        "encoder.layers.1.attention": (3, 2, 5, 5),
        "decoder.layers.0.attention": (3, 4, 4, 4),
        "decoder.layers.0.cross_attention": (3, 4, 4, 5),
        "decoder.layers.1.attention": (3, 4, 4, 4),
        "decoder.layers.1.cross_attention": (3, 4, 4, 5),
    }


def test_rows_of_a_map_sum_to_one_even_while_dropping_out():
    stack = blocks(causal=True, dropout=0.5).train()
    with record_attention(stack) as maps:
        stack(torch.randn(2, 5, 8), mask=padding_mask(uneven_valid([5, 3], 5)))
    for weights in maps.values():
        assert_near(weights.sum(dim=-1), torch.ones(2, 2, 5), 1e-6)
        assert not weights[1, :, :, 3:].any() and not weights.triu(1).any()


@pytest.mark.parametrize("passes", [1, 2])
def test_a_shared_block_files_call_i_under_path_i_mod_n(passes):
    block = EncoderBlock(8, 2, 6)
    start = states = torch.randn(2, 4, 8)
    expected = {}
    for layer in range(3):
        with record_attention(block) as maps:
            states = block(states)
        expected[f"layers.{layer}.attention"] = maps["attention"]
    first, second, third = expected.values()
    assert not torch.allclose(first, second, atol=1e-3) and not torch.allclose(second, third, atol=1e-3)

    stack = Stack([block] * 3)
    with record_attention(stack) as maps:
        for _ in range(passes):
            stack(start)
    assert list(maps) == list(expected)
    for path in maps:
        assert_near(maps[path], torch.cat([expected[path]] * passes, dim=2), 1e-6)


def hooks(model):
    return list(itertools.chain.from_iterable(module._forward_hooks.values() for module in model.modules()))


def test_recording_leaves_nothing_behind():
    stack = blocks(causal=True)
    with record_attention(stack) as maps:
        assert len(hooks(stack)) == 2
        stack(torch.randn(1, 3, 8))
    assert not hooks(stack)
    stack(torch.randn(1, 5, 8))
    assert all(weights.shape == (1, 2, 3, 3) for weights in maps.values())


def test_recording_changes_neither_outputs_nor_gradients():
    stack = blocks(positions=RelativeBias(2))
    (states,) = leaves((1, 3, 8), dtype=torch.float32)
    plain = stack(states)
    with record_attention(stack) as maps:
        recorded = stack(states)
    assert torch.equal(recorded, plain)
    assert torch.equal(*(torch.autograd.grad(output.square().sum(), states)[0] for output in (recorded, plain)))
    assert not any(weights.requires_grad for weights in maps.values())


def test_an_attention_map_that_does_not_know_its_weights_says_so():
    class Silent(AttentionMap):
        def forward(self, x):
            return x

    model = nn.Sequential(Silent())
    with pytest.raises(TypeError, match="Silent does not say what its attention weights are"), record_attention(model):
        model(torch.ones(1))
    assert not hooks(model)
