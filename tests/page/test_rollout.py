import numpy as np
import pytest
from helpers_page import made_view, weights_of

from minitransformer.page import Grid
from minitransformer.page.rollout import rollout


def by_formula(grid):
    """Rollout of self-attention, one layer after another in float64."""
    weights = weights_of(grid.weights).mean(axis=1)
    rolled, layers = np.eye(weights.shape[1]), []
    for layer in weights / weights.sum(axis=2, keepdims=True):
        rolled = (layer / 2 + np.eye(len(layer)) / 2) @ rolled
        layers.append(rolled)
    return np.stack(layers)


def grid_of(kind, queries, keys, layers=3, seed=0):
    [grid] = made_view(kind=kind, queries=queries, keys=keys, layers=layers, heads=2, seed=seed).grids
    return grid


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_self_attention_is_rolled_up_to_each_layer(kind):
    grid = grid_of(kind, "abcd", "abcd")
    np.testing.assert_allclose(rollout(grid, [grid]), by_formula(grid), atol=0.01)  # bytes do not add up to 1
    np.testing.assert_allclose(rollout(grid, [grid]).sum(axis=2), 1, atol=1e-6)


def test_cross_attention_is_carried_on_through_the_encoder_that_reads_the_same_tokens():
    encoder, cross = grid_of("encoder", "abcd", "abcd"), grid_of("cross", "xy", "abcd", seed=1)
    means = [cross.shares[: layer + 1].mean(axis=(0, 1)) for layer in range(3)]
    expected = np.stack([mean @ rollout(encoder, [])[-1] for mean in means])
    np.testing.assert_allclose(rollout(cross, [encoder, cross]), expected, atol=1e-6)
    np.testing.assert_allclose(rollout(cross, [grid_of("encoder", "abcx", "abcx"), cross]), np.stack(means), atol=1e-6)


def test_self_attention_with_keys_that_are_no_queries_has_the_mean_of_its_layers():
    grid = grid_of("decoder", "abc", ["a", "b", "c", "[PAD]"])
    np.testing.assert_allclose(rollout(grid, [grid])[-1], grid.shares.mean(axis=(0, 1)), atol=1e-6)


def test_a_query_that_may_attend_to_nothing_reads_no_other():
    weights = np.zeros((2, 1, 2, 2), np.uint8)
    weights[:, 0, 0, 1] = 255
    rolled = rollout(Grid("encoder", ("a", "b"), ("a", "b"), weights), [])
    np.testing.assert_allclose(rolled, [[[0.5, 0.5], [0, 0.5]], [[0.25, 0.5], [0, 0.25]]])
