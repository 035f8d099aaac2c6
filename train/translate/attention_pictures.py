"""Where trained translators looked, as pictures in the run folder."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from minitransformer.plots import AttentionExample, attention_grid, attention_heads


def draw_attention(
    translators: Mapping[str, Translator], examples: Sequence[tuple[str, str | None]], folder: Path
) -> None:
    """`attention.png`: every model with attention over the same (source, reference) pairs; and `heads-NAME.png`: the
    heads, where there are several, over the last pair.

    A translation that differs from its reference is drawn in red, unless the reference is None.
    """
    maps: dict[str, list[AttentionExample]] = {}
    for name, translator in translators.items():
        if getattr(translator.model.config, "attention", None) == "none":
            continue
        for text, reference in examples:
            output, source, target, weights = translator.attention_map(text)
            example = AttentionExample(weights.mean(dim=0), source, target, correct=reference in (None, output))
            maps.setdefault(name, []).append(example)
        if len(weights) > 1:
            draw_or_warn(attention_heads, weights, source, target, title=name, path=folder / f"heads-{name}.png")
    if maps:
        draw_or_warn(attention_grid, maps, path=folder / "attention.png")


def draw_or_warn(draw_picture: Callable[..., Path], *args: Any, path: Path, **options: Any) -> None:
    """A picture of very long texts would be too large; the figures it goes with are written all the same."""
    try:
        draw_picture(*args, path=path, **options)
    except InputError as error:
        warnings.warn(f"no {path.name}: {error}", stacklevel=2)
