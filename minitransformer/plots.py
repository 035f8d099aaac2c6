"""Pictures: attention maps and learning curves, as PNG files.

`..._figure` returns a matplotlib `Figure`, which a notebook shows; the other functions save one.
matplotlib is imported only where it is used; pyplot, with its windows and global state, is never imported.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic, require_place_for

if TYPE_CHECKING:
    import matplotlib.figure

Map = Float[Tensor | np.ndarray, "target source"]
Maps = Float[Tensor | np.ndarray, "heads target source"]
Curve = Sequence[tuple[int | float, int | float]]

DPI = 150
MAX_PIXELS = 10**8  # 400 MB while drawing
MOST_TOKENS = 80
"""Of a longer text a map shows the first tokens, and says so."""

# Inches. Maps are laid out by hand, so that cells are square and labels have room for their letters.
CELL, GAP, TITLE_ROOM, BAR = 0.2, 0.25, 0.25, (0.1, 0.8)

LABEL_SIZE, TITLE_SIZE, HEADING_SIZE = 9, 10, 12
LETTER = 0.61 / 72  # inches of a letter's width for each point of font size, in the monospaced font of labels
LONGEST_LABEL = 16
# matplotlib includes both fonts; the second has glyphs that the first lacks. parse_math would read "$x$" as a formula.
LABEL: dict[str, Any] = {"fontfamily": ["DejaVu Sans Mono", "DejaVu Sans"], "fontsize": LABEL_SIZE, "parse_math": False}
WRONG: dict[str, Any] = {"color": "#c1121f", "fontweight": "bold"}


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """One map: `weights[t, s]` is the attention of output token t to input token s.

    A string is a sequence of one-letter tokens. `correct=False` shows the output tokens in red. The `note` stands
    below.
    """

    weights: Map
    source: Sequence[str]
    target: Sequence[str]
    correct: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        shape, tokens = tuple(self.weights.shape), (len(self.target), len(self.source))
        if shape != tokens or 0 in tokens:
            raise InputError(f"weights {shape} do not fit (target, source) = {tokens} tokens, 1 or more of each")

    @property
    def beginning(self) -> "AttentionExample":
        """The part that a picture has room for, with a note that says so."""
        if max(self.weights.shape) <= MOST_TOKENS:
            return self
        counts = f"{len(self.source):,} input and {len(self.target):,} output tokens"
        weights, source, target = self.weights[:MOST_TOKENS, :MOST_TOKENS], self.source, self.target
        shown = source[:MOST_TOKENS], target[:MOST_TOKENS]
        return AttentionExample(weights, *shown, self.correct, note=f"the first {MOST_TOKENS} of {counts}")


def attention_map(
    weights: Map, source: Sequence[str], target: Sequence[str], *, title: str = "", path: Path | str
) -> Path:
    """One heat map, input tokens across and output tokens down (Bahdanau et al. 2015, figure 3)."""
    return save_figure(attention_figure([[("", AttentionExample(weights, source, target))]], title=title), path)


def attention_grid(maps: Mapping[str, Sequence[AttentionExample]], path: Path | str, *, title: str = "") -> Path:
    """The same examples for several models, one column a model: `maps` gives the examples of each model by name."""
    counts = {name: len(examples) for name, examples in maps.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"every model needs maps of the same examples, but the numbers of examples are {counts}")
    rows = [list(zip(maps, examples, strict=True)) for examples in zip(*maps.values(), strict=True)]
    return save_figure(attention_figure(rows, title=title), path)


def attention_heads(
    weights: Maps, source: Sequence[str], target: Sequence[str], *, title: str = "", path: Path | str
) -> Path:
    """Every head of one layer, numbered from 1, and their mean."""
    panels = [(f"head {i}", AttentionExample(head, source, target)) for i, head in enumerate(weights, start=1)]
    panels.append(("mean of heads", AttentionExample(weights.mean(0), source, target)))
    # The number of columns that makes the picture about 1.5 times as wide as high.
    columns = max(1, round(math.sqrt(1.5 * len(panels) * len(target) / len(source))))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    return save_figure(attention_figure(rows, title=title), path)


def learning_curves(
    curves: Mapping[str, Curve], path: Path | str, *, xlabel: str, ylabel: str, title: str = "", percent: bool = True
) -> Path:
    """A line through the points (x, y) of each model, the last point marked. `percent`: y is a fraction of 1."""
    return save_figure(curves_figure(curves, xlabel=xlabel, ylabel=ylabel, title=title, percent=percent), path)


def attention_figure(
    rows: Sequence[Sequence[tuple[str, AttentionExample]]], *, title: str = ""
) -> "matplotlib.figure.Figure":
    """Rows of (title, example), each drawn as a heat map, with one colour bar. Rows may differ in length."""
    from matplotlib.figure import Figure

    if not any(rows):
        raise InputError("no attention maps to draw")
    rows = [[(name, example.beginning) for name, example in row] for row in rows]
    columns = [[row[j] for row in rows if j < len(row)] for j in range(max(map(len, rows)))]
    # A row is as high and a column as wide as its largest panel: labels to the left and above, cells, title.
    lefts = [max(_label_room(x.target) for _, x in column) for column in columns]
    aboves = [max(_label_room(x.source) for _, x in row) + TITLE_ROOM * any(name for name, _ in row) for row in rows]
    across = [max(max(CELL * len(x.source), LETTER * TITLE_SIZE * len(name)) for name, x in c) for c in columns]
    down = [max(CELL * len(x.target) for _, x in row) for row in rows]
    xs = [0.0, *accumulate(left + cells + GAP for left, cells in zip(lefts, across, strict=True))]
    ys = [0.0, *accumulate(above + cells + GAP for above, cells in zip(aboves, down, strict=True))]
    width, height = xs[-1], ys[-1]
    if width * height * DPI**2 > MAX_PIXELS:
        raise InputError(f"{width:.0f} by {height:.0f} inches is too large a picture: show fewer or shorter examples")
    figure = Figure(figsize=(width, height))

    def add_axes(x: float, y: float, wide: float, high: float) -> "matplotlib.axes.Axes":
        """Axes at inches from the top left; matplotlib counts fractions from the bottom left."""
        return figure.add_axes((x / width, 1 - (y + high) / height, wide / width, high / height))

    for y, above, row in zip(ys, aboves, rows, strict=False):
        for x, left, (name, example) in zip(xs, lefts, row, strict=False):
            axes = add_axes(x + left, y + above, CELL * len(example.source), CELL * len(example.target))
            mesh = _draw_map(axes, example)
            title_pad = 72 * (_label_room(example.source) + 0.05)
            axes.set_title(name, loc="left", fontsize=TITLE_SIZE, y=1, pad=title_pad, parse_math=False)
    # Bar, heading and note are outside the figure's box, which grows to include them when it is saved or shown.
    bar = add_axes(width, aboves[0], *BAR)
    figure.colorbar(mesh, cax=bar, ticks=[0, 0.5, 1]).set_label("weight", fontsize=LABEL_SIZE - 1)
    bar.tick_params(labelsize=LABEL_SIZE - 1, length=2)
    longest = max(40, int(width / (LETTER * HEADING_SIZE)))
    title = title if len(title) <= longest else title[: longest - 1] + "…"
    figure.text(0, 1 + 0.1 / height, title, va="bottom", fontsize=HEADING_SIZE, parse_math=False)
    if not all(example.correct for row in rows for _, example in row):
        figure.text(0, 0, "red: differs from the reference", va="top", fontsize=LABEL_SIZE, **WRONG)
    return figure


def curves_figure(
    curves: Mapping[str, Curve], *, xlabel: str, ylabel: str, title: str = "", percent: bool = True
) -> "matplotlib.figure.Figure":
    """The figure that `learning_curves` saves."""
    from matplotlib import color_sequences
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    empty = [name for name, points in curves.items() if len(points) == 0]
    if empty or not curves:
        raise InputError(f"no points to draw for {', '.join(empty) or 'any model'}")
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=color_sequences["petroff10"])  # distinguishable for colour-blind readers
    lines = [axes.plot(*zip(*points, strict=True), marker="o", markevery=[-1])[0] for points in curves.values()]
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", parse_math=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(lines, list(curves), frameon=False).get_texts():
        text.set_parse_math(False)
    return figure


def _draw_map(axes: "matplotlib.axes.Axes", example: AttentionExample) -> "matplotlib.collections.QuadMesh":
    weights = example.weights
    # NumPy has no bfloat16.
    values = weights.detach().float().cpu().numpy() if isinstance(weights, Tensor) else weights
    # White is 0; lines between the cells lead the eye from a weight to its two tokens.
    mesh = axes.pcolormesh(values, cmap="Greys", vmin=0, vmax=1, edgecolors="0.85", lw=0.5, antialiased=True)
    axes.invert_yaxis()
    axes.set_xlabel(example.note, loc="left", fontsize=LABEL_SIZE - 1)
    axes.set_xticks(np.arange(len(example.source)) + 0.5, [_label(token) for token in example.source])
    axes.set_yticks(np.arange(len(example.target)) + 0.5, [_label(token) for token in example.target])
    axes.tick_params(length=0, pad=3, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_color("0.7")
    for text in axes.get_xticklabels():
        text.set(**LABEL, rotation=90 if len(text.get_text()) > 1 else 0)
    for text in axes.get_yticklabels():
        text.set(**LABEL, **({} if example.correct else WRONG))
    return mesh


def _label(token: str) -> str:
    """The token with spaces and line ends as symbols and unprintable characters as escapes; long tokens are cut."""
    shown = token.replace("\n", "↵").replace("\t", "⇥")
    shown = "".join("␣" if c.isspace() else c if c.isprintable() else ascii(c)[1:-1] for c in shown)
    return shown if len(shown) <= LONGEST_LABEL else shown[: LONGEST_LABEL - 1] + "…"


def _label_room(tokens: Sequence[str]) -> float:
    return LETTER * LABEL_SIZE * max(len(_label(token)) for token in tokens) + 0.1


def require_png(path: Path) -> None:
    """`InputError` for a file that no picture can be written to."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are PNG files, so give a name that ends in .png")
    require_place_for(path)


def save_figure(figure: "matplotlib.figure.Figure", path: Path | str) -> Path:
    """Write a picture atomically, as PNG. `InputError` for a path with another ending."""
    path = Path(path)
    require_png(path)
    with atomic(path) as unfinished, warnings.catch_warnings():
        # A script that the fonts lack is drawn as boxes; a warning for each letter would add nothing.
        warnings.filterwarnings("ignore", r"Glyph \d+|Matplotlib currently does not support", UserWarning)
        figure.draw_without_rendering()
        # With bbox_inches="tight" a second bitmap of full size would be in memory, to find the box.
        figure.savefig(unfinished, format="png", dpi=DPI, bbox_inches=figure.get_tightbbox().padded(0.1))
    return path
