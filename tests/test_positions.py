import math

import pytest
import torch
from helpers_pieces import assert_near, assert_same_with_gradients, leaves
from transformers import LlamaConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from minitransformer import (
    ALiBi,
    InputError,
    LearnedPositions,
    RelativeBias,
    Rotary,
    SinusoidalPositions,
    attention_weights,
)

UNEVEN = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]])  # the second row has two pads on the left


def test_sinusoids_equal_the_formula_up_to_position_5000():
    d_model = 6
    positions = [0, 1, 2, 255, 256, 257, 1023, 4999, 5000]
    expected = [
        [f(p / 10000 ** (2 * i / d_model)) for i in range(d_model // 2) for f in (math.sin, math.cos)]
        for p in positions
    ]
    ours = SinusoidalPositions(d_model)(torch.tensor([positions, positions[::-1]]))
    assert_near(ours, torch.tensor([expected, expected[::-1]]), 1e-6)


def test_learned_positions_look_up_each_rows_own_place():
    positions = LearnedPositions(6, 3)
    assert torch.equal(positions(UNEVEN), positions.embedding.weight[UNEVEN])


def test_rotary_equals_llamas():
    rope = {"rope_type": "default", "rope_theta": 50.0}
    config = LlamaConfig(hidden_size=24, num_attention_heads=4, max_position_embeddings=64, rope_parameters=rope)
    query, key = leaves((2, 4, 5, 6), (2, 4, 5, 6), dtype=torch.float32)
    positions = UNEVEN + torch.tensor([[7], [30]])
    expected = apply_rotary_pos_emb(query, key, *LlamaRotaryEmbedding(config)(query, positions))
    rotary = Rotary(6, base=50.0)
    for leaf, theirs in zip((query, key), expected, strict=True):
        assert_same_with_gradients(rotary.rotate(leaf, positions), theirs, [(leaf, leaf)], tolerance=1e-5)


def test_an_odd_width_is_refused():
    with pytest.raises(InputError, match="d_model=5 is odd"):
        SinusoidalPositions(5)
    with pytest.raises(InputError, match="head_dim=3 is odd"):
        Rotary(3)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 8, 12, 16, 25])
def test_alibi_slopes_equal_blooms(num_heads):
    """BLOOM gives each key slope · position, whatever the query: at position 1 that is the slope."""
    theirs = build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), num_heads, torch.float32)[:, 0, 1]
    assert_near(ALiBi(num_heads).slopes, theirs, 1e-7)


def test_alibi_gives_the_weights_that_blooms_gives_on_uneven_rows():
    """A query's bias may differ by a constant from BLOOM's; the softmax does not see that."""
    valid = torch.tensor([[True] * 5, [False, False, True, True, True]])
    mask = torch.ones(5, 5, dtype=torch.bool).tril() & valid[:, None, None, :]
    query, key = torch.randn(2, 2, 3, 5, 4)
    theirs = build_alibi_tensor(valid.long(), 3, torch.float32).view(2, 3, 1, 5)
    ours = attention_weights(query, key, mask, bias=ALiBi(3).bias(UNEVEN, UNEVEN))
    expected = attention_weights(query, key, mask, bias=theirs)
    assert_near(ours, expected, 1e-6)


def test_alibi_penalises_distance_on_both_sides_alike():
    bias = ALiBi(2).bias(torch.tensor([[2]]), torch.tensor([[0, 1, 2, 3, 4]]))
    assert bias.shape == (1, 2, 1, 5)
    assert bias[0, :, 0].tolist() == [[-d / 16 for d in (2, 1, 0, 1, 2)], [-d / 256 for d in (2, 1, 0, 1, 2)]]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (6, 5), (4, 2)])
def test_relative_buckets_equal_t5s(num_buckets, max_distance, bidirectional):
    if not bidirectional and max_distance <= num_buckets // 2:
        max_distance = num_buckets
    ours = RelativeBias(2, num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional)
    ahead = torch.arange(-300, 301)
    theirs = T5Attention._relative_position_bucket(ahead, bidirectional, num_buckets, max_distance)
    assert torch.equal(ours.buckets(ahead), theirs)


@pytest.mark.parametrize(
    "options",
    [{"num_buckets": 3}, {"max_distance": 8}, {"num_buckets": 32, "max_distance": 16, "bidirectional": False}],
)
def test_relative_buckets_that_leave_no_room_are_refused(options):
    with pytest.raises(InputError, match=r"num_buckets=\d+ and max_distance=\d+ leave no room"):
        RelativeBias(2, **options)
