import pytest
import torch
from helpers_pieces import assert_near, every_scheme, few_examples, scheme, uneven_valid
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from minitransformer import (
    InputError,
    KVCache,
    MultiHeadAttention,
    padding_mask,
    sliding_window_mask,
)

D_MODEL, HEADS, HEAD_DIM = 8, 4, 2


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


def random_attention(name="none", **options):
    """Weights large enough that a wrong key shows, biases that are not zero."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(D_MODEL, HEADS, positions=scheme(name, HEADS, HEAD_DIM), **options)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.6)
    return ours


def new_cache(max_length, *, batch=2, kv_heads=HEADS):
    """Filled with NaN, so that a slot which is read before it was written shows."""
    cache = KVCache(batch, kv_heads, max_length, HEAD_DIM)
    cache.keys.fill_(torch.nan)
    cache.values.fill_(torch.nan)
    return cache


def in_chunks(layer, states, cache, sizes, **options):
    return torch.cat([layer(chunk, cache=cache, **options) for chunk in states.split(sizes, dim=1)], dim=1)


@every_scheme
@few_examples
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5), kv_heads=st.sampled_from([4, 2, 1]))
def test_cached_attention_equals_uncached_however_the_sequence_is_split(name, sizes, kv_heads):
    ours = random_attention(name, num_kv_heads=kv_heads)
    states = torch.randn(2, sum(sizes), D_MODEL)
    cached = in_chunks(ours, states, new_cache(sum(sizes), kv_heads=kv_heads), sizes, causal=True)
    assert_near(cached, ours(states, causal=True), 1e-5)


@every_scheme
@few_examples
@given(rows=st.lists(st.integers(0, 2), min_size=1, max_size=5), seen=st.integers(1, 7), num_new=st.integers(1, 3))
def test_selected_rows_and_the_original_go_on_as_their_own_sequences(name, rows, seen, num_new):
    """Whether slots are free or all of them full."""
    ours = random_attention(name)
    earlier, later = torch.randn(3, seen, D_MODEL), torch.randn(len(rows), num_new, D_MODEL)
    cache = new_cache(5, batch=3)
    in_chunks(ours, earlier, cache, [1] * seen)
    selected = in_chunks(ours, later, cache.select(torch.tensor(rows)), [1] * num_new)
    others = torch.randn(3, num_new, D_MODEL)
    original = in_chunks(ours, others, cache, [1] * num_new)
    for before, after, output in ((earlier[rows], later, selected), (earlier, others, original)):
        states = torch.cat([before, after], dim=1)
        expected = ours(states, mask=sliding_window_mask(states.shape[1], states.shape[1], 5))
        assert_near(output, expected[:, seen:], 1e-5)


def test_keys_are_written_in_place_and_read_without_a_copy():
    cache = new_cache(3)
    storage = cache.keys.data_ptr(), cache.values.data_ptr()
    for step in range(5):
        new = torch.full((2, HEADS, 1, HEAD_DIM), float(step))
        keys, values = cache.append(new, -new)
        assert (keys.data_ptr(), values.data_ptr()) == storage
        assert cache.num_seen == step + 1 and cache.length == keys.shape[2] == values.shape[2] == min(step + 1, 3)
        held = list(range(max(0, step - 2), step + 1))
        assert sorted(keys[0, 0, :, 0].tolist()) == held
        assert torch.equal(keys, -values)


def test_cross_attention_projects_its_memory_once():
    ours = random_attention()
    queries, memory = torch.randn(2, 4, D_MODEL), torch.randn(2, 3, D_MODEL)
    mask = padding_mask(uneven_valid([3, 2], 3))
    cache = new_cache(3)
    first = ours(queries[:, :1], memory, mask=mask, cache=cache)
    rest = ours(queries[:, 1:], torch.full_like(memory, torch.nan), mask=mask, cache=cache)
    assert cache.num_seen == 3
    assert_near(torch.cat([first, rest], dim=1), ours(queries, memory, mask=mask), 1e-6)


def test_a_cache_refuses_to_be_used_with_gradients():
    ours = random_attention()
    states, cache = torch.randn(2, 1, D_MODEL), new_cache(3)
    with torch.enable_grad(), pytest.raises(RuntimeError, match=r"torch\.no_grad\(\) or inference_mode\(\)"):
        ours(states, cache=cache)
    assert cache.num_seen == 0 and cache.keys.isnan().all()


@pytest.mark.parametrize(("seen", "new", "free"), [(3, 2, 1), (0, 5, 4), (4, 2, 0), (6, 3, 0)])
def test_only_single_tokens_may_push_out_the_oldest(seen, new, free):
    ours, cache = random_attention(), new_cache(4)
    for token in torch.randn(seen, 2, 1, D_MODEL):
        ours(token, cache=cache)
    before = cache.keys.clone()
    with pytest.raises(InputError, match=f"{new} tokens do not fit in the {free} free slots of a cache of 4"):
        ours(torch.randn(2, new, D_MODEL), causal=True, cache=cache)
    assert cache.num_seen == seen
    torch.testing.assert_close(cache.keys, before, rtol=0, atol=0, equal_nan=True)
