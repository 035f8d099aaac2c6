"""Attention rollout: how much each query reads of each key through all the layers up to one."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from minitransformer.page.views import Grid


def rollout(grid: Grid, grids: Sequence[Grid]) -> Float[np.ndarray, "layers queries keys"]:
    """The rollout up to each layer of a grid (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928).

    With A the mean of a layer's heads, self-attention gives the product of (A + I) / 2 over the layers. Other kinds
    give the mean of A over the layers, multiplied by the whole rollout of the encoder below if it is one of `grids`.
    """
    if _is_self(grid):
        return _of_self_attention(grid)
    layers = np.arange(1, len(grid.layers) + 1, dtype=np.float32)
    means = grid.shares.mean(axis=1).cumsum(axis=0) / layers[:, None, None]
    below = next((each for each in grids if _is_self(each) and each.keys == grid.keys), None)
    return means if below is None else means @ _of_self_attention(below)[-1]


def _is_self(grid: Grid) -> bool:
    return grid.kind in ("encoder", "decoder") and len(grid.queries) == len(grid.keys)


def _of_self_attention(grid: Grid) -> Float[np.ndarray, "layers queries keys"]:
    product = identity = np.eye(len(grid.keys), dtype=np.float32)
    products = []
    for heads_mean in grid.shares.mean(axis=1):
        product = (heads_mean + identity) / 2 @ product
        products.append(product)
    return np.stack(products)
