"""Import paths of earlier versions. They still work, with a DeprecationWarning that names the new path."""

import importlib
import sys
import warnings
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

MOVED: dict[str, dict[str, str]] = {
    "minitransformer.translation": {"Translator": "minitransformer", "Translation": "minitransformer.pipelines"},
    "minitransformer.completion": {"Completer": "minitransformer"},
    "minitransformer.classification": {"Classifier": "minitransformer", "Guess": "minitransformer.pipelines"},
    "minitransformer.filling": {"MaskFiller": "minitransformer", "Filling": "minitransformer.pipelines"},
    "minitransformer.data.labels": {"load_labelled": __name__, "encode_texts": "minitransformer.text_encoding"},
    "minitransformer.data.packaged": {"minilm": "minitransformer.data.corpora"},
}
"""Old module -> name in it -> module that has it now. `train` adds its own."""


class MovedModules(Loader, MetaPathFinder):
    """Imports the modules in `MOVED`. Each finds its names when they are asked for, so that it costs nothing before."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(__all__=[*MOVED[module.__name__]], __getattr__=partial(_moved, module.__name__))


def _moved(old: str, name: str) -> Any:
    if name not in MOVED[old]:
        raise AttributeError(f"module {old!r} has no attribute {name!r}")
    new = MOVED[old][name]
    instead = "minitransformer.data.load(..., kind='labelled')" if name == "load_labelled" else f"{new}.{name}"
    warnings.warn(f"{old}.{name} is deprecated: use {instead}", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(new), name)


def load_labelled(
    name_or_path: str | Path, *, text: str | None = None, label: str | None = None, seed: int = 0
) -> SimpleNamespace:
    """Labelled texts in the form of earlier versions: `names` of the labels, and `splits` of `texts` and `labels`."""
    from minitransformer.data import load

    splits = load(name_or_path, kind="labelled", text=text, label=label, seed=seed)
    return SimpleNamespace(
        names=tuple(splits["train"].features["label"].names),
        splits={split: SimpleNamespace(texts=rows["text"], labels=rows["label"]) for split, rows in splits.items()},
    )


sys.meta_path.append(MovedModules())
