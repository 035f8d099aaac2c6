"""Classifiers as folders of the library sentence-transformers: a BERT, its pooling, and the head as a dense layer.

The classes of `transformers` read the first token alone, so classifiers that pool otherwise go out like this.
`SentenceTransformer(folder).encode(texts)` gives the logits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic, write_json
from minitransformer.models.pooling import PoolingName
from minitransformer.models.weights import read_safetensors
from minitransformer.untrusted import read_json, shown

POOLINGS: dict[PoolingName, str] = {
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "first": "pooling_mode_cls_token",
}
"""Our poolings, and the settings that choose them."""
FOLDERS = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
"""The modules of such a classifier and where each lies."""
_WITHOUT_ACTIVATION = "torch.nn.modules.linear.Identity"


def has_sentence_head(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether `folder`, with the `settings` of its `config.json`, is a classifier: these three modules, and names of
    labels. Other folders of the library end in a vector for a text."""
    path = folder / "modules.json"
    modules = read_json(path) if path.is_file() else None
    if not isinstance(modules, list):
        return False
    paths = [each.get("path") if isinstance(each, dict) else None for each in modules]
    return paths == list(FOLDERS.values()) and "id2label" in settings


def write_sentence_head(folder: Path, pooling: PoolingName, head: Mapping[str, Tensor], max_length: int) -> None:
    """All files but the BERT's own. `head` has "weight" and "bias"."""
    num_labels, width = head["weight"].shape
    chosen = {setting: setting == POOLINGS[pooling] for setting in POOLINGS.values()}
    dense = {"in_features": width, "out_features": num_labels, "bias": True}
    for name in list(FOLDERS.values())[1:]:
        (folder / name).mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **chosen})
    write_json(folder / "2_Dense" / "config.json", {**dense, "activation_function": _WITHOUT_ACTIVATION})
    with atomic(folder / "2_Dense" / "model.safetensors") as temporary:
        save_file({f"linear.{name}": tensor for name, tensor in head.items()}, temporary, metadata={"format": "pt"})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(FOLDERS.items())
    ]
    write_json(folder / "modules.json", modules)


def read_sentence_head(folder: Path) -> tuple[PoolingName, dict[str, Tensor]]:
    """The pooling, and the head's "output.weight" and "output.bias". `InputError` for settings that compute something
    else, by name."""
    path = folder / "1_Pooling" / "config.json"
    settings = _object(path)
    chosen = [name for name, value in settings.items() if name.startswith("pooling_mode") and value is True]
    pooling = next((ours for ours, theirs in POOLINGS.items() if chosen == [theirs]), None)
    if pooling is None:
        raise InputError(f"{path}: {shown(chosen)} must be one of {', '.join(POOLINGS.values())}")
    path = folder / "2_Dense" / "config.json"
    settings = _object(path)
    for name, only in {"activation_function": _WITHOUT_ACTIVATION, "bias": True}.items():
        if settings.get(name) != only:
            raise InputError(f"{path}: {name}={shown(settings.get(name))}: only {only!r} is supported")
    stored = read_safetensors(path.with_name("model.safetensors"))
    if stored.keys() != {"linear.weight", "linear.bias"}:
        raise InputError(f"{path.with_name('model.safetensors')} must hold linear.weight and linear.bias: {[*stored]}")
    return pooling, {name.replace("linear", "output"): tensor for name, tensor in stored.items()}


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not an object")
    return value
