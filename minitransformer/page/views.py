"""What an attention page shows of a model: `View`, a title and a text with the grids of attention maps."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.tokenizer_training import PAD

Kind = Literal["encoder", "decoder", "cross", "pooling", "image"]
"""Self-attention of an encoder or a causal decoder, cross-attention, pooling, attention to the cells of an image."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The maps of one kind, layers by heads, as `as_bytes` gives them.

    `queries` and `keys` spell the tokens of a map's rows and columns. `step_rows` are the rows of the view's steps, if
    the model made one row in each step. `layers` and `heads` are the numbers, from 1, of the maps that are kept.
    `cells` are the rows and columns of an image's cells, which are the keys in reading order.
    """

    kind: Kind
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    weights: UInt8[np.ndarray, "layers heads queries keys"]
    step_rows: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    cells: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        layers, heads, *shape = self.weights.shape
        object.__setattr__(self, "layers", self.layers or tuple(range(1, layers + 1)))
        object.__setattr__(self, "heads", self.heads or tuple(range(1, heads + 1)))
        if self.kind not in get_args(Kind):
            raise InputError(f"kind={self.kind!r} must be one of {', '.join(get_args(Kind))}")
        if shape != [len(self.queries), len(self.keys)] or 0 in self.weights.shape:
            sizes = f"({len(self.queries)}, {len(self.keys)})"
            raise InputError(f"weights {self.weights.shape} do not fit (queries, keys) = {sizes}, 1 or more of each")
        if self.cells is not None and self.cells[0] * self.cells[1] != len(self.keys):
            raise InputError(f"cells={self.cells} do not fit {len(self.keys)} keys")

    @property
    def entropy(self) -> Float[np.ndarray, "layers heads"]:
        """The entropy of each head's rows in bits, as their mean."""
        shares = self.shares
        return -np.sum(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares)), axis=3).mean(axis=2)

    @property
    def distance(self) -> Float[np.ndarray, "layers heads"]:
        """How many tokens away from its own place a query of each head looks, as the mean over weights and rows."""
        away = np.abs(np.arange(len(self.queries))[:, None] - np.arange(len(self.keys)))
        return (self.shares * away).sum(axis=3).mean(axis=2)

    @property
    def shares(self) -> Float[np.ndarray, "layers heads queries keys"]:
        """The weights, each row divided by its sum; a query that may attend to nothing keeps zeros."""
        weights = np.square(self.weights / np.float32(255))
        return weights / np.maximum(weights.sum(axis=3, keepdims=True), np.float32(1e-9))

    def only(self, layers: Collection[int] | None, heads: Collection[int] | None) -> "Grid | None":
        """The maps of these layers and heads; None where there are none."""
        rows = [place for place, number in enumerate(self.layers) if layers is None or number in layers]
        columns = [place for place, number in enumerate(self.heads) if heads is None or number in heads]
        if not rows or not columns:
            return None
        return replace(
            self,
            weights=self.weights[rows][:, columns],
            layers=tuple(self.layers[place] for place in rows),
            heads=tuple(self.heads[place] for place in columns),
        )


class Step(NamedTuple):
    """A choice of the model: the text before it, and the likeliest tokens with their probabilities, best first."""

    text: str
    likeliest: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class View:
    """What one model looked at: its grids, the `steps` in which it chose tokens, and `notes` for the reader.

    The weights of an `image` grid lie over the `image`, grey or RGB. Raises `InputError` for a model without attention.
    """

    title: str
    text: str
    grids: tuple[Grid, ...]
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    image: UInt8[np.ndarray, "height width"] | UInt8[np.ndarray, "height width 3"] | None = None

    def __post_init__(self) -> None:
        if not self.grids:
            raise InputError(f"{self.title}: this model has no attention to show")
        for grid in self.grids:
            if grid.step_rows and len(grid.step_rows) != len(self.steps):
                raise InputError(f"{len(grid.step_rows)} step_rows do not fit {len(self.steps)} steps")
            if (grid.kind == "image") != (grid.cells is not None) or (grid.cells is not None and self.image is None):
                raise InputError("an image grid, and no other, has cells, and its view an image")

    @property
    def source(self) -> tuple[str, ...]:
        """The tokens of the text that was read."""
        grid = next((grid for grid in self.grids if grid.kind != "decoder"), self.grids[0])
        read = grid.step_rows[0] + 1 if grid.kind == "decoder" and grid.step_rows else len(grid.keys)
        return tuple(key for key in grid.keys[:read] if key != PAD)

    def only(self, layers: Collection[int] | None = None, heads: Collection[int] | None = None) -> "View":
        """The view with these layers and heads, numbered from 1. A grid with a single head always keeps it.

        Raises `InputError` if nothing is left.
        """
        kept = [grid if grid.weights.shape[:2] == (1, 1) else grid.only(layers, heads) for grid in self.grids]
        if not any(kept):
            has = (f"{name} {listed(self.numbers(name))}" for name in ("layers", "heads"))
            raise InputError(f"{self.title} has {' and '.join(has)}, and none of those asked for")
        return replace(self, grids=tuple(grid for grid in kept if grid is not None))

    def numbers(self, name: Literal["layers", "heads"]) -> list[int]:
        """The numbers of its layers or heads."""
        return sorted({number for grid in self.grids for number in getattr(grid, name)})


def as_bytes(weights: Float[Tensor | np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Weights from 0 to 1 as bytes: b stands for (b / 255)².

    The square keeps small weights apart, of which a row over many tokens consists, and is off by less than 1/255. The
    page draws b itself. Raises `InputError` for weights outside.
    """
    values = weights.detach().float().cpu().numpy() if isinstance(weights, Tensor) else weights
    if not (np.all(values >= 0) and np.all(values <= 1 + 1e-4)):
        raise InputError("attention weights must be numbers from 0 to 1")
    return np.rint(255 * np.sqrt(np.minimum(values, 1))).astype(np.uint8)


def grids_of(
    maps: Mapping[str, Float[Tensor, "1 heads queries keys"]],
    tokens: Mapping[Kind, tuple[Sequence[str], Sequence[str]]],
    step_rows: Mapping[Kind, Iterable[int]] | None = None,
) -> tuple[Grid, ...]:
    """The maps that `record_attention` collected of one text, by the kind that their paths tell.

    `tokens` gives the queries and keys of each kind; keys beyond them are padding.
    """
    layers: dict[Kind, list[Tensor]] = {}
    for path, weights in maps.items():
        layers.setdefault(kind_of(path), []).append(weights[0])
    grids = []
    for kind, of_layers in layers.items():
        queries, keys = tokens[kind]
        if len(shapes := {tuple(each.shape) for each in of_layers}) > 1:
            raise InputError(f"{kind} maps of the shapes {sorted(shapes)} make no grid: give maps of one shape")
        keys = (*keys, *[PAD] * (of_layers[0].shape[2] - len(keys)))
        stacked = np.stack([as_bytes(each) for each in of_layers])
        grids.append(Grid(kind, tuple(queries), keys, stacked, tuple((step_rows or {}).get(kind, ()))))
    return tuple(grids)


def kind_of(path: str) -> Kind:
    """The kind of attention at a path of `record_attention`."""
    if path.endswith("pooling"):
        return "pooling"
    if path.endswith("cross_attention") or path == "decoder.attention":  # the second is that of recurrent models
        return "cross"
    return "decoder" if re.search(r"\bdecoder\.", path) else "encoder"


def listed(numbers: Sequence[int]) -> str:
    """1, 2, 3 and 7 as "1-3,7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
