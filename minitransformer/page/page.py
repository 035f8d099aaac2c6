"""An attention page as one HTML file: markup, style, script and data, and nothing that is fetched."""

import base64
import hashlib
import html
import json
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from minitransformer.errors import InputError
from minitransformer.files import atomic, require_place_for
from minitransformer.page.views import Grid, View, listed

MOST_CELLS = 10_000_000
"""The most weights on a page, which then has 13 MB."""


def attention_page(
    views: View | Sequence[View],
    path: str | Path,
    *,
    layers: Collection[int] | None = None,
    heads: Collection[int] | None = None,
) -> Path:
    """Write one page with these views side by side, all layers and heads of them or those with these numbers, from 1.

    Raises `InputError` for a name that does not end in .html, for numbers that no view has, and for more than
    `MOST_CELLS` weights.
    """
    path = Path(path)
    require_html(path)
    views = require_room(kept([views] if isinstance(views, View) else views, layers, heads))
    with atomic(path) as unfinished:
        unfinished.write_text(page_html(views), encoding="utf-8")
    return path


def require_html(path: Path) -> None:
    """`InputError` for a file that no page can be written to."""
    if path.suffix.lower() != ".html":
        raise InputError(f"{path}: pages are HTML files, so give a name that ends in .html")
    require_place_for(path)


def kept(views: Sequence[View], layers: Collection[int] | None, heads: Collection[int] | None) -> Sequence[View]:
    """The views with these layers and heads alone. `InputError` for a number that none has."""
    if layers is None and heads is None:
        return views
    known = {"layers": {n for view in views for n in view.numbers("layers")}}
    known["heads"] = {n for view in views for n in view.numbers("heads")}
    for name, given in (("layers", layers), ("heads", heads)):
        if unknown := sorted(set(given or ()) - known[name]):
            raise InputError(f"{name}={listed(unknown)}: there are {name} {listed(sorted(known[name]))}")
    return [view.only(layers, heads) for view in views]


def require_room(views: Sequence[View]) -> Sequence[View]:
    """The views; `InputError` for none, and for more than a browser should draw."""
    if not views:
        raise InputError("there is no view to show")
    if (cells := sum(view.num_cells for view in views)) > MOST_CELLS:
        largest = max((grid for view in views for grid in view.grids), key=lambda grid: grid.weights.size)
        layers, heads, queries, keys = largest.weights.shape
        raise InputError(
            f"{cells:,} weights are more than the {MOST_CELLS:,} that a page has room for: name some of the {layers} "
            f"layers and {heads} heads of {queries:,} x {keys:,} tokens (layers=, heads=), or take a shorter text"
        )
    return views


def page_html(views: Sequence[View], *, explore: int = 0) -> str:
    """The page of these views; with `explore` one to type so many characters into, which it sends to its server."""
    files = resources.files(__package__)
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    title = f"Attention: {views[0].text[:60]}" if views else "Attention"
    return Template((files / "page.html").read_text(encoding="utf-8")).substitute(
        policy=content_policy(style, script, explore=explore),
        title=html.escape(title),
        style=style,
        script=script,
        data=views_json(views, explore=explore).replace("<", r"\u003c"),  # so that no text ends the script element
    )


def content_policy(style: str, script: str, *, explore: int) -> str:
    """The Content-Security-Policy that allows this style and this script, and of all requests those to the server of
    `explore` alone."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = ["default-src 'none'", f"style-src {allowed(style)}", f"script-src {allowed(script)}"]
    rules += ["connect-src 'self'"] if explore else []
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def views_json(views: Sequence[View], *, explore: int = 0) -> str:
    """What the script reads: {"explore": the most characters, "notes": [...], "views": [...]}; weights and pixels are
    base64."""
    data = {"explore": explore, "notes": notes_of(views), "views": [_view(view) for view in views]}
    return json.dumps(data, ensure_ascii=False)


def notes_of(views: Sequence[View]) -> list[str]:
    """What a reader should know before looking: the notes of the views, and tokens that cannot be compared."""
    titles: dict[str, list[str]] = {}
    for view in views:
        for note in view.notes:
            titles.setdefault(note, []).append(view.title)
    notes = [note if len(of) == len(views) else f"{', '.join(of)}: {note}" for note, of in titles.items()]
    if len({view.source for view in views}) > 1:
        notes.append("the models read the text as different tokens, which are not linked to one another")
    return notes


def _view(view: View) -> dict[str, Any]:
    image = view.image
    return {
        "title": view.title,
        "text": view.text,
        "grids": [_grid(grid) for grid in view.grids],
        "steps": [
            {"text": step.text, "likeliest": [(token, round(probability, 6)) for token, probability in step.likeliest]}
            for step in view.steps
        ],
        "image": image is not None and {"shape": image.shape, "pixels": _base64(image)},
    }


def _grid(grid: Grid) -> dict[str, Any]:
    fields = {name: getattr(grid, name) for name in ("kind", "queries", "keys", "layers", "heads", "cells")}
    measures = {name: getattr(grid, name).ravel().round(3).tolist() for name in ("entropy", "distance")}
    return fields | measures | {"rows": grid.step_rows, "weights": _base64(grid.weights)}


def _base64(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()
