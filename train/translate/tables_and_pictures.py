"""What exact match and BLEU share when results are shown: types of reports, and attention pictures."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minitransformer.errors import InputError
from minitransformer.pipelines.translator import Translator
from minitransformer.plots import AttentionExample, attention_grid, attention_heads

Reports = Mapping[str, Mapping[str, Any]]
"""The report of each model, by its name."""
History = Sequence[Mapping[str, Any]]
"""The evaluations during training, in order: step, seconds and scores of each."""


def draw_attention(
    translators: Mapping[str, Translator], examples: Sequence[tuple[str, str | None]], folder: Path
) -> None:
    """Write `attention.png`, the maps of every model that has attention over the same (source, reference) pairs; and
    for each model with several heads `heads-NAME.png`, all heads over the last pair.

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
    """Very long texts would make too large a picture: a warning says so, and the run goes on without it."""
    try:
        draw_picture(*args, path=path, **options)
    except InputError as error:
        warnings.warn(f"no {path.name}: {error}", stacklevel=2)
