"""Images and the maps over them, side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def panels(
    columns: Mapping[str, Float[Tensor, "rows y x"]], outlined: Shaped[Tensor, "rows y x"], *, label: str
) -> tuple["Figure", Any]:
    """A figure and its axes (row, column): columns of numbers from 0 to 1 under their titles, the first one in grey.

    The outlines of another image lie over each row. `label` says what the numbers of the other columns are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 * len(columns), 1.6 * len(outlined) + 0.7), layout="constrained")
    grid = figure.subplots(len(outlined), len(columns), squeeze=False)
    for place, (title, maps) in enumerate(columns.items()):
        grid[0, place].set_title(title, fontsize=8)
        for row, axes in enumerate(grid[:, place]):
            axes.set(xticks=[], yticks=[])
            shown = axes.imshow(maps[row].numpy(), vmin=0, vmax=1, cmap="magma" if place else "gray")
            axes.contour(outlined[row].numpy(), levels=[0.5], colors="#3ddc84", linewidths=0.8)
    figure.colorbar(shown, ax=grid[:, -1], label=label, aspect=40)
    return figure, grid
