import inspect
import itertools
import math

import pytest
import torch
from helpers_pieces import (
    assert_near,
    assert_same_with_gradients,
    leaves,
    uneven_valid,
)
from torch import nn
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from minitransformer import (
    InputError,
    MultiHeadAttention,
    RelativeBias,
    Rotary,
    attention,
    attention_weights,
    causal_mask,
    document_mask,
    kernels,
    padding_mask,
    record_attention,
    sliding_window_mask,
)
from minitransformer.kernels.fused_attention import fused_attention

HEADS, HEAD_DIM, VALUE_DIM = 4, 3, 2
LENGTHS = [(2, 4), (4, 4), (4, 3), (1, 4)]  # queries, keys


@pytest.fixture(params=["formula", "fused"])
def attend(request):
    """Attention by its formula, and by torch's fused kernel, which on a CPU computes long texts only."""
    with kernels.disabled():
        yield attention if request.param == "formula" else fused_attention


def visibility(kind, queries, keys):
    """A kind of mask twice over: what `attention` is given, and which key each query may attend to, in numbers.

    Row 0 is all real, row 1 padded on both sides, row 2 has nothing real.
    """
    valid = torch.zeros(3, keys, dtype=torch.bool)
    valid[0], valid[1, 1:-1] = True, True
    documents = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 2, 2]])
    own_head = torch.rand(3, HEADS, queries, keys) < 0.6
    behind = keys - queries + torch.arange(queries)[:, None] - torch.arange(keys)  # keys between the two
    real, past = valid[:, None, None], behind >= 0
    near, same_document = past & (behind < 2), (documents[:, :, None] == documents[:, None])[:, None]
    padding, window = padding_mask(valid), sliding_window_mask(queries, keys, 2)
    mask, causal, allowed = {
        "everything": (None, False, past | True),
        "causal flag": (None, True, past),
        "causal mask": (causal_mask(queries, keys), False, past),
        "padding": (padding, False, real),
        "window": (window, False, near),
        "padding, causal": (padding, True, real & past),
        "padding, window": (padding & window, False, real & near),
        "a head's own": (own_head, False, own_head),
        "documents": (document_mask(documents), False, same_document),
    }[kind]
    return mask, causal, allowed.expand(3, HEADS, queries, keys)


KINDS = ["everything", "causal flag", "causal mask", "padding", "window", "padding, causal", "padding, window"]
CASES = [(kind, *lengths) for kind in [*KINDS, "a head's own"] for lengths in LENGTHS] + [("documents", 4, 4)]


def attention_by_loop(query, key, value, allowed, bias=None, scale=None):
    """The formula, one query at a time: the output, and the weights of every query."""
    batch, heads, queries, head_dim = query.shape
    scale = 1 / math.sqrt(head_dim) if scale is None else scale
    output = query.new_zeros(batch, heads, queries, value.shape[-1], dtype=torch.float64)
    weights = query.new_zeros(batch, heads, queries, key.shape[2], dtype=torch.float64)
    for b, h, i in itertools.product(range(batch), range(heads), range(queries)):
        kv_head, seen = h // (heads // key.shape[1]), allowed[b, h, i]
        if not seen.any():
            continue
        scores = key[b, kv_head, seen].double() @ query[b, h, i].double() * scale
        if bias is not None:
            scores = scores + bias.expand(batch, heads, -1, -1)[b, h, i, seen]
        exponentials = torch.exp(scores)
        row = exponentials / exponentials.sum()
        output[b, h, i] = row @ value[b, kv_head, seen].double()
        weights[b, h, i, seen] = row
    return output, weights


def inputs(queries, keys, kv_heads=HEADS, dtype=torch.float64):
    return leaves(
        (3, HEADS, queries, HEAD_DIM), (3, kv_heads, keys, HEAD_DIM), (3, kv_heads, keys, VALUE_DIM), dtype=dtype
    )


def same(*tensors):
    return [(tensor, tensor) for tensor in tensors]


@pytest.mark.parametrize(
    ("kv_heads", "bias_shape", "scale", "dtype", "tolerance"),
    [
        (4, None, None, torch.float64, 1e-10),
        (1, None, None, torch.float64, 1e-10),
        (2, (1, HEADS), 0.3, torch.float64, 1e-10),
        (2, (3, 1), 0.3, torch.float64, 1e-10),  # a row's own, the same for all heads
        (2, (1, HEADS), 0.3, torch.float32, 1e-5),
    ],
)
@pytest.mark.parametrize(("kind", "queries", "keys"), CASES)
def test_attention_and_its_weights_equal_a_float64_loop(
    attend, kind, queries, keys, kv_heads, bias_shape, scale, dtype, tolerance
):
    mask, causal, allowed = visibility(kind, queries, keys)
    query, key, value = inputs(queries, keys, kv_heads, dtype)
    biases = [] if bias_shape is None else leaves((*bias_shape, queries, keys), dtype=dtype)
    options = {"causal": causal, "bias": biases[0] if biases else None, "scale": scale}
    expected, expected_weights = attention_by_loop(query, key, value, allowed, options["bias"], scale)
    ours = attend(query, key, value, mask, **options)
    assert_same_with_gradients(ours, expected.to(dtype), same(query, key, value, *biases), tolerance=tolerance)
    weights = attention_weights(query, key, mask, **options)
    assert_same_with_gradients(weights, expected_weights.to(dtype), same(query, key, *biases), tolerance=tolerance)


@pytest.mark.parametrize("kind", ["everything", "causal flag", "padding, causal"])
def test_bfloat16_attention_is_as_exact_as_bfloat16(attend, kind):
    mask, causal, allowed = visibility(kind, 4, 4)
    query, key, value = inputs(4, 4, kv_heads=2, dtype=torch.bfloat16)
    bias = torch.randn(1, HEADS, 4, 4)  # float32, as position schemes give it
    expected, _ = attention_by_loop(query, key, value, allowed, bias)
    ours = attend(query, key, value, mask, causal=causal, bias=bias)
    assert ours.dtype == torch.bfloat16
    assert_near(ours.double(), expected, 4e-2)


def test_a_query_that_may_attend_to_nothing_gets_zeros_and_sends_back_zero_gradients(attend):
    query, key, value = inputs(2, 3)
    (bias,) = leaves((1, HEADS, 2, 3))
    mask = torch.ones(3, 1, 2, 3, dtype=torch.bool)
    mask[0, :, 0] = False  # one query of row 0
    mask[1] = False  # all of row 1
    output = attend(query, key, value, mask, bias=bias)
    assert not output[0, :, 0].any() and not output[1].any()
    assert output[0, :, 1].all() and output[2].all()
    # Anomaly mode fails on a NaN that appears on the way back, even if it is multiplied away later.
    with torch.autograd.set_detect_anomaly(True):
        output.square().sum().backward()
    for leaf in (query, key, value, bias):
        assert leaf.grad.isfinite().all()
    assert not query.grad[0, :, 0].any() and not query.grad[1].any()
    assert not key.grad[1].any() and not value.grad[1].any()
    assert query.grad[0, :, 1].any() and value.grad[0].any()


def test_attention_over_no_keys_at_all_is_zeros(attend):
    query, key, value = inputs(2, 0)
    output = attend(query, key, value)
    assert output.shape == (3, HEADS, 2, VALUE_DIM) and not output.any()


def test_what_a_masked_key_holds_changes_nothing(attend):
    query, key, value = inputs(3, 4)
    mask = padding_mask(torch.tensor([[True, True, True, False]]))
    before = attend(query, key, value, mask, causal=True)
    with torch.no_grad():
        key[:, :, 3], value[:, :, 3] = 1e6, -1e6
    assert torch.equal(attend(query, key, value, mask, causal=True), before)


def test_dropout_keeps_the_mean_and_drops_weights(attend):
    query, key, value = (tensor.detach()[:1] for tensor in inputs(2, 3, kv_heads=2))
    many = [tensor.expand(4000, -1, -1, -1) for tensor in (query, key, value)]
    dropped = attend(*many, causal=True, dropout=0.4)
    assert_near(dropped.mean(dim=0), attend(query, key, value, causal=True)[0], 0.1)
    assert (dropped.std(dim=0) > 0.1).all()


def test_dropping_every_weight_leaves_zeros(attend):
    assert not attend(*inputs(2, 3), dropout=1.0).any()


@pytest.mark.parametrize("shape", [(3, 5), (3, 3, 5), (3, 4, 3, 5)])
def test_a_mask_of_another_rank_or_type_is_refused(shape):
    query, key, value = inputs(3, 5)
    mask = torch.ones(shape, dtype=torch.bool if len(shape) < 4 else torch.long)
    message = rf"boolean and 4-D .* True = may attend; got {mask.dtype} of shape .*{', '.join(map(str, shape))}"
    # Unwrapped: the type checks that the suite runs under would refuse it first.
    for refuse in (
        lambda: inspect.unwrap(attention)(query, key, value, mask),
        lambda: inspect.unwrap(attention_weights)(query, key, mask),
    ):
        with pytest.raises(InputError, match=message):
            refuse()


# Multi-head attention


def random_attention(*args, dtype=torch.float64, **options):
    """A MultiHeadAttention whose biases are not zero."""
    ours = MultiHeadAttention(*args, **options).to(dtype)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.4)
    return ours


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("kind", ["self", "causal", "cross"])
def test_multi_head_attention_equals_torchs_with_each_key_head_repeated(kind, kv_heads, bias):
    """A shared key head is so many equal ones, and its gradient their sum."""
    theirs = nn.MultiheadAttention(8, 4, bias=bias, batch_first=True, dtype=torch.float64)
    ours = random_attention(8, 4, num_kv_heads=kv_heads, bias=bias)

    def repeated(rows):
        query, key, value = rows.split([8, 2 * kv_heads, 2 * kv_heads])
        key, value = (x.unflatten(0, (kv_heads, 2)).repeat_interleave(4 // kv_heads, 0) for x in (key, value))
        return torch.cat([query, key.flatten(0, 1), value.flatten(0, 1)])

    names = {"project_in.": "in_proj_", "project_out": "out_proj"}
    parameters = {}
    for name, parameter in ours.named_parameters():
        for our_part, their_part in names.items():
            name = name.replace(our_part, their_part)
        parameters[name] = repeated(parameter) if "in_proj" in name else parameter
    states, memory = leaves((2, 5, 8), (2, 6, 8))
    attended = memory if kind == "cross" else states
    valid = uneven_valid([attended.shape[1], 2], attended.shape[1])
    allowed = torch.ones(5, 5).tril() > 0 if kind == "causal" else torch.rand(5, attended.shape[1]) < 0.6
    allowed[:, 0] = True
    expected, their_weights = torch.func.functional_call(
        theirs,
        parameters,
        (states, attended, attended),
        {"key_padding_mask": ~valid, "attn_mask": ~allowed, "average_attn_weights": False},
    )
    mask = padding_mask(valid) if kind == "causal" else padding_mask(valid) & allowed
    with record_attention(ours) as maps:
        output = ours(states, memory if kind == "cross" else None, mask=mask, causal=kind == "causal")
    leaf_states = (states, memory) if kind == "cross" else (states,)
    assert_same_with_gradients(output, expected, same(*leaf_states, *ours.parameters()))
    assert_near(maps[""], their_weights.detach(), 1e-10)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_bias_in_attention_equals_t5s(bidirectional):
    """T5 does not scale its scores: unscaled here by √head_dim in the query's weights."""
    config = T5Config(
        d_model=8,
        d_kv=4,
        num_heads=2,
        dropout_rate=0.0,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=10,
        is_decoder=not bidirectional,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double()
    positions = RelativeBias(2, num_buckets=8, max_distance=10, bidirectional=bidirectional)
    ours = MultiHeadAttention(8, 2, bias=False, positions=positions).double()
    with torch.no_grad():
        ours.project_in.weight.copy_(torch.cat([2 * theirs.q.weight, theirs.k.weight, theirs.v.weight]))
        ours.project_out.weight.copy_(theirs.o.weight)
        positions.embedding.weight.copy_(theirs.relative_attention_bias.weight)
    (states,) = leaves((2, 12, 8))
    mask = padding_mask(uneven_valid([12, 7], 12))
    if not bidirectional:
        mask = mask & causal_mask(12)
    expected = theirs(states, mask=torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e300))[0]
    output = ours(states, mask=mask)
    tables = positions.embedding.weight, theirs.relative_attention_bias.weight
    assert_same_with_gradients(output, expected, [*same(states), tables])


def test_positions_do_not_act_in_cross_attention():
    ours = random_attention(8, 2, positions=Rotary(4))
    without = MultiHeadAttention(8, 2).double()
    without.load_state_dict(ours.state_dict())
    states, memory = leaves((1, 3, 8), (1, 4, 8))
    assert torch.equal(ours(states, memory), without(states, memory))
    assert not torch.allclose(ours(states), without(states))


def test_attention_drops_while_it_is_itself_in_training_mode_as_torchs_does():
    ours, without = random_attention(8, 2, dropout=1.0), MultiHeadAttention(8, 2).double()
    theirs = nn.MultiheadAttention(8, 2, dropout=1.0, batch_first=True, dtype=torch.float64)
    without.load_state_dict(ours.state_dict())
    nn.ModuleList([ours, theirs]).eval()  # the model around them
    states, memory = leaves((2, 3, 8), (2, 4, 8))
    for inputs in ((states,), (states, memory)):
        assert torch.equal(ours.eval()(*inputs), without(*inputs))
        # With every weight dropped, only the output's bias is left.
        assert torch.equal(ours.train()(*inputs), ours.project_out.bias.expand(2, 3, 8))
        dropped, _ = theirs.train()(states, inputs[-1], inputs[-1])
        assert torch.equal(dropped, theirs.out_proj.bias.expand(2, 3, 8))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="4 query heads cannot share 3 key heads"):
        attention(*inputs(3, 5, kv_heads=3))
    for heads in (3, 0):
        with pytest.raises(InputError, match=f"d_model=100 is not divisible by num_heads={heads}"):
            MultiHeadAttention(100, heads)
        with pytest.raises(InputError, match=f"num_heads=4 is not divisible by num_kv_heads={heads}"):
            MultiHeadAttention(8, 4, num_kv_heads=heads)
