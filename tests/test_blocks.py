import warnings
from functools import partial

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from helpers_pieces import assert_near, assert_same_with_gradients, copy_by_name, leaves, uneven_valid
from torch import nn

from minitransformer import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    InputError,
    MultiHeadAttention,
    Stack,
    padding_mask,
)
from minitransformer.activations import ACTIVATIONS
from minitransformer.attention import ScaledDotProduct
from minitransformer.norms import make_norm, rms_norm

D_MODEL, HEADS, D_FF = 8, 2, 6
PIECES = {
    "project_in.": "in_proj_",
    "project_out": "out_proj",
    "feed_forward.expand": "linear1",
    "feed_forward.contract": "linear2",
}
ENCODER_NAMES = {
    "feed_forward_residual.norm": "norm2",
    "attention_residual.norm": "norm1",
    "attention.": "self_attn.",
    **PIECES,
}
DECODER_NAMES = {
    "feed_forward_residual.norm": "norm3",
    "cross_attention_residual.norm": "norm2",
    "attention_residual.norm": "norm1",
    "cross_attention.": "multihead_attn.",
    "attention.": "self_attn.",
    **PIECES,
}


def options(pre_norm, activation, bias):
    """The same choices in our words and in torch's."""
    ours = {"pre_norm": pre_norm, "activation": activation, "bias": bias, "norm_eps": 1e-3}
    theirs = {"norm_first": pre_norm, "activation": activation, "bias": bias, "layer_norm_eps": 1e-3}
    return ours, {**theirs, "dropout": 0.0, "batch_first": True, "dtype": torch.float64}


def later(length):
    """torch's mask says what may *not* be attended to."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


every_kind = pytest.mark.parametrize(
    ("pre_norm", "activation", "bias"),
    [(p, a, b) for p in (False, True) for a in ("relu", "gelu") for b in (True, False)],
)


@pytest.mark.parametrize("causal", [False, True])
@every_kind
def test_encoder_block_equals_torchs(pre_norm, activation, bias, causal):
    our_options, their_options = options(pre_norm, activation, bias)
    theirs = nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, **their_options)
    ours = EncoderBlock(D_MODEL, HEADS, D_FF, causal=causal, **our_options).double()
    parameters = copy_by_name(ours, theirs, ENCODER_NAMES)
    (states,) = leaves((3, 5, D_MODEL))
    valid = uneven_valid([5, 3, 1], 5)
    expected = theirs(states, src_mask=later(5) if causal else None, src_key_padding_mask=~valid)
    output = ours(states, mask=padding_mask(valid))
    assert_same_with_gradients(output, expected, [(states, states), *parameters])


@pytest.mark.parametrize("causal", [None, False])
@every_kind
def test_decoder_block_equals_torchs(pre_norm, activation, bias, causal):
    our_options, their_options = options(pre_norm, activation, bias)
    theirs = nn.TransformerDecoderLayer(D_MODEL, HEADS, D_FF, **their_options)
    ours = DecoderBlock(D_MODEL, HEADS, D_FF, causal=causal, **our_options).double()
    parameters = copy_by_name(ours, theirs, DECODER_NAMES)
    states, memory = leaves((3, 4, D_MODEL), (3, 5, D_MODEL))
    valid, memory_valid = uneven_valid([4, 1, 3], 4), uneven_valid([2, 5, 1], 5)
    padding = {"tgt_key_padding_mask": ~valid, "memory_key_padding_mask": ~memory_valid}
    expected = theirs(states, memory, None if causal is False else later(4), **padding)
    output = ours(states, memory, mask=padding_mask(valid), memory_mask=padding_mask(memory_valid))
    assert_same_with_gradients(output, expected, [(states, states), (memory, memory), *parameters])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_stack_ends_in_a_norm_after_pre_norm_blocks_only(pre_norm):
    our_options, their_options = options(pre_norm, "relu", True)
    layer = nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, **their_options)
    final = {"norm": nn.LayerNorm(D_MODEL, dtype=torch.float64)} if pre_norm else {}
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False, **final)
    ours = Stack(
        [EncoderBlock(D_MODEL, HEADS, D_FF, **our_options) for _ in range(2)],
        make_norm("layernorm", D_MODEL) if pre_norm else None,
    ).double()
    parameters = copy_by_name(ours, theirs, {"final_norm.": "norm.", **ENCODER_NAMES})
    (states,) = leaves((2, 4, D_MODEL))
    valid = uneven_valid([4, 2], 4)
    expected = theirs(states, src_key_padding_mask=~valid)
    output = ours(states, mask=padding_mask(valid))
    assert_same_with_gradients(output, expected, [(states, states), *parameters])


FORMULAS = {
    "relu": torch.relu,
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "relu_squared": lambda x: torch.where(x > 0, x * x, 0.0),
    "swiglu": lambda x: x[..., :5] / (1 + torch.exp(-x[..., :5])) * x[..., 5:],
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward_is_two_linear_layers_around_an_activation(activation, bias):
    ours = FeedForward(3, 5, activation=activation, bias=bias).double()
    (states,) = leaves((2, 4, 3))
    hidden = FORMULAS[activation](F.linear(states, ours.expand.weight, ours.expand.bias))
    expected = F.linear(hidden, ours.contract.weight, ours.contract.bias)
    assert_same_with_gradients(ours(states), expected, [(p, p) for p in (states, *ours.parameters())])
    assert len(list(ours.parameters())) == (4 if bias else 2)


def make_block(kind, **options):
    """A block, and the inputs it takes beside its states."""
    block = {"encoder": EncoderBlock, "decoder": DecoderBlock}[kind](D_MODEL, HEADS, D_FF, **options)
    return block, () if kind == "encoder" else (torch.randn(2, 4, D_MODEL),)


every_block = pytest.mark.parametrize("kind", ["encoder", "decoder"])


def dropout_alone_in_training(module):
    """Monte Carlo dropout: all else is in evaluation mode."""
    module.eval()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.train()
    return module


modes = pytest.mark.parametrize("mode", [nn.Module.train, dropout_alone_in_training])


@modes
@every_block
def test_dropping_everything_leaves_the_residual_stream(kind, mode):
    states = torch.randn(2, 3, D_MODEL)
    for pre_norm, expected in ((True, states), (False, nn.LayerNorm(D_MODEL)(states))):
        dropping, memory = make_block(kind, pre_norm=pre_norm, dropout=1.0)
        # A norm of a norm is almost the first.
        assert_near(mode(dropping)(states, *memory), expected, 0 if pre_norm else 1e-4)
        without, _ = make_block(kind, pre_norm=pre_norm)
        without.load_state_dict(dropping.state_dict())
        assert torch.equal(dropping.eval()(states, *memory), without(states, *memory))


@modes
def test_dropping_all_that_feed_forward_hides_leaves_its_bias(mode):
    ours = mode(FeedForward(3, 5, dropout=1.0))
    assert torch.equal(ours(torch.randn(2, 3)), ours.contract.bias.expand(2, 3))


@every_block
def test_attention_and_activation_dropout_are_the_blocks_unless_given(kind):
    for options in ({}, {"attention_dropout": 0.0}, {"attention_dropout": 0.1, "activation_dropout": 0.2}):
        block, _ = make_block(kind, dropout=0.3, **options)
        attentions = [part for part in block.modules() if isinstance(part, MultiHeadAttention)]
        assert {attention.dropout for attention in attentions} == {options.get("attention_dropout", 0.3)}
        assert block.attention_residual.dropout.p == 0.3
        assert block.feed_forward.dropout.p == options.get("activation_dropout", 0.3)


@every_block
def test_activation_and_norm_may_be_callables_and_module_classes(kind):
    named, memory = make_block(kind, activation="gelu", norm="rmsnorm", norm_eps=1e-3)
    states = torch.randn(2, 3, D_MODEL)
    for activation in (F.gelu, nn.GELU, nn.GELU()):
        block, _ = make_block(kind, activation=activation, norm=partial(nn.RMSNorm, eps=1e-3))
        block.load_state_dict(named.state_dict())
        assert_near(block(states, *memory), named(states, *memory), 1e-6)


@every_block
def test_no_norm_warns_of_mixed_precision(kind):
    block, memory = make_block(kind, norm="rmsnorm", qk_norm=True)
    torch.set_warn_always(True)  # otherwise once in the life of the process
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
            warnings.simplefilter("error")
            block(torch.randn(2, 3, D_MODEL), *memory).square().sum().backward()
    finally:
        torch.set_warn_always(False)


def test_rms_norm_of_mixed_precision_is_torchs():
    x, weight = torch.rand(3, 16).bfloat16().requires_grad_(), torch.rand(16, requires_grad=True)
    ours, theirs = rms_norm(x, weight, 1e-3), F.rms_norm(x, (16,), weight, 1e-3)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    for mine, other in zip(*(torch.autograd.grad(y.sum(), (x, weight)) for y in (ours, theirs)), strict=True):
        assert_near(mine, other, 1e-2)


@every_block
def test_qk_norm_bounds_every_score(kind):
    """Queries and keys of root mean square 1: a score is at most head_dim / √head_dim."""
    block, memory = make_block(kind, qk_norm=True)
    scores = []

    def watch(module, args, options):
        scores.append(args[0] @ args[1].mT / args[0].shape[-1] ** 0.5)

    attentions = [part for part in block.modules() if isinstance(part, ScaledDotProduct)]
    for attend in attentions:
        attend.register_forward_pre_hook(watch, with_kwargs=True)
    block(100 * torch.randn(2, 3, D_MODEL), *memory)
    assert len(scores) == len(attentions)
    for score in scores:
        assert score.abs().max() <= (D_MODEL // HEADS) ** 0.5 * 1.001


@every_block
def test_every_submodule_can_be_replaced_hooked_and_given_a_forward_of_its_own(kind):
    """Contract 12. Each leaf in turn returns zeros, made to do so in three ways: all have the same effect."""
    block, memory = make_block(kind, qk_norm=True, activation=nn.GELU, norm="rmsnorm")
    states = torch.randn(2, 3, D_MODEL)
    plain = block(states, *memory)
    leaves = [path for path, part in block.named_modules() if not list(part.children()) and "dropout" not in path]
    assert len(leaves) == {"encoder": 10, "decoder": 16}[kind]
    for path in leaves:
        leaf, (owner, _, name) = block.get_submodule(path), path.rpartition(".")
        owner, usual = block.get_submodule(owner), leaf.forward

        class Zeros(nn.Module):
            def forward(self, *args, usual=usual, **options):
                return torch.zeros_like(usual(*args, **options))

        setattr(owner, name, Zeros())
        replaced = block(states, *memory)
        setattr(owner, name, leaf)
        with leaf.register_forward_hook(lambda module, args, output: torch.zeros_like(output)):
            hooked = block(states, *memory)
        leaf.forward = Zeros().forward
        own = block(states, *memory)
        del leaf.forward
        assert not torch.allclose(replaced, plain), path
        assert torch.equal(hooked, replaced) and torch.equal(own, replaced), path
    assert torch.equal(block(states, *memory), plain)


@pytest.mark.parametrize("build", [EncoderBlock, DecoderBlock])
def test_an_unknown_name_is_refused_with_the_known_ones(build, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    with pytest.raises(InputError, match=r"activation='tanh' must be one of relu, gelu, gelu_tanh, .*, or a callable"):
        build(D_MODEL, HEADS, D_FF, activation="tanh")
    with pytest.raises(InputError, match="norm='batchnorm' must be one of layernorm, rmsnorm, or a callable"):
        build(D_MODEL, HEADS, D_FF, norm="batchnorm")
    with pytest.raises(InputError, match="d_model=8 is not divisible by num_heads=3"):
        build(D_MODEL, 3, D_FF)
