"""The most weights that a page has room for, counted before a model runs and again before the page is written."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from minitransformer.attention_maps import AttentionMap
from minitransformer.errors import InputError
from minitransformer.page.views import Kind, View, kind_of

MOST_CELLS = 10_000_000
"""The most weights on a page, which then has 13 MB, and one map more of each layer: its rollout."""


class Shape(NamedTuple):
    """The sizes of a grid of maps."""

    layers: int
    heads: int
    queries: int
    keys: int


def require_room(shapes: Sequence[Shape]) -> None:
    """`InputError` for more weights than a browser should draw."""
    if (cells := sum(map(math.prod, shapes))) > MOST_CELLS:
        layers, heads, queries, keys = max(shapes, key=math.prod)
        raise InputError(
            f"{cells:,} weights are more than the {MOST_CELLS:,} that a page has room for: name some of the {layers} "
            f"layers and {heads} heads of {queries:,} x {keys:,} tokens (layers=, heads=), or take a shorter text"
        )


def shapes_of(views: Sequence[View]) -> list[Shape]:
    return [Shape(*grid.weights.shape) for view in views for grid in view.grids]


def shapes_ahead(
    model: nn.Module,
    sizes: Mapping[Kind, tuple[int, int]],
    layers: Collection[int] | None = None,
    heads: Collection[int] | None = None,
) -> list[Shape]:
    """The grids that a view of a model will have, whose maps have at most `sizes` queries and keys.

    Of these layers and heads, numbered from 1, or of all; a grid with a single head always keeps it.
    """
    found: dict[Kind, list[int]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, AttentionMap):
            owner = path.rpartition(".")[0]
            found.setdefault(kind_of(owner), []).append(getattr(model.get_submodule(owner), "num_heads", 1))
    shapes = []
    for kind, heads_of_layers in found.items():
        shape = Shape(len(heads_of_layers), max(heads_of_layers), *sizes[kind])
        if shape[:2] != (1, 1):
            shape = shape._replace(layers=_kept(shape.layers, layers), heads=_kept(shape.heads, heads))
        shapes.append(shape)
    return shapes


def _kept(count: int, numbers: Collection[int] | None) -> int:
    return count if numbers is None else len(set(numbers) & set(range(1, count + 1)))
