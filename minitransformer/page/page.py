"""An attention page as one HTML file: markup, style, script and data, and nothing that is fetched."""

import base64
import hashlib
import html
import json
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from jaxtyping import UInt8

from minitransformer.errors import InputError
from minitransformer.files import atomic, require_place_for
from minitransformer.page.rollout import rollout
from minitransformer.page.room import require_room, shapes_of
from minitransformer.page.views import Grid, View, as_bytes, listed


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
    views = kept([views] if isinstance(views, View) else views, layers, heads)
    if not views:
        raise InputError("there is no view to show")
    require_room(shapes_of(views))
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
        "grids": [_grid(grid, view) for grid in view.grids],
        "steps": [
            {"text": text, "likeliest": [(label(token), round(probability, 6)) for token, probability in likeliest]}
            for text, likeliest in view.steps
        ],
        "image": image is not None and {"width": image.shape[1], "pixels": _base64(rgba(image))},
    }


def _grid(grid: Grid, view: View) -> dict[str, Any]:
    entropy, distance = grid.entropy.round(3).tolist(), grid.distance.round(3).tolist()
    is_alone = grid.weights.shape[:2] == (1, 1)  # then there is nothing to combine
    rolled: Iterable[Any] = [] if is_alone else as_bytes(rollout(grid, view.grids))
    return {
        "kind": grid.kind,
        "queries": [label(token) for token in grid.queries],
        "keys": cell_names(*grid.cells) if grid.cells else [label(token) for token in grid.keys],
        "layers": grid.layers,
        "heads": grid.heads,
        "cells": grid.cells,
        "rows": grid.step_rows,
        "maps": [
            {
                "layer": layer,
                "head": head,
                "entropy": entropy[i][j],
                "distance": distance[i][j],
                "bytes": _base64(grid.weights[i, j]),
            }
            for i, layer in enumerate(grid.layers)
            for j, head in enumerate(grid.heads)
        ],
        "rollout": [
            {"layer": layer, "bytes": _base64(upto)} for layer, upto in zip(grid.layers, rolled, strict=not is_alone)
        ],
    }


def label(token: str) -> str:
    """A token as the page shows it: what has no form of its own is spelled out."""
    shown = (token.strip() or token.replace(" ", "␣")).replace("\n", "↵").replace("\t", "⇥")
    plain = "".join(f"\\x{ord(char):02x}" if unicodedata.category(char) == "Cc" else char for char in shown)
    return plain or "◌"  # one of several tokens that spell a character together


def cell_names(rows: int, columns: int) -> list[str]:
    return [f"row {row}, column {column}" for row in range(1, rows + 1) for column in range(1, columns + 1)]


def rgba(image: UInt8[np.ndarray, "height width *colours"]) -> UInt8[np.ndarray, "height width 4"]:
    """A grey or RGB image as a canvas takes it."""
    colours = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    return np.pad(colours, ((0, 0), (0, 0), (0, 1)), constant_values=255)


def _base64(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()
