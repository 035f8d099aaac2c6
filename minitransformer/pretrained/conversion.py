"""From a checkpoint of any known architecture to a model of ours, and back."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic, write_json
from minitransformer.model_card import write_exported_card
from minitransformer.models.base import Model, read_config
from minitransformer.models.described import made_again, require_described
from minitransformer.models.weights import FLOATS, give_memory, own_shapes, own_tensors, require_finite, require_fit
from minitransformer.pretrained.architecture import HubConfig, TheirTensor
from minitransformer.pretrained.folders import StoredTensor, checkpoint_folder, read_tensors
from minitransformer.pretrained.special_ids import ids_of_other_files
from minitransformer.pretrained.tokenizer_files import special_tokens, write_tokenizer
from minitransformer.untrusted import shown

M = TypeVar("M", bound=Model)
H = TypeVar("H", bound="HubConfig")


OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Parts of tensors' names in old checkpoints, and today's."""


def load_pretrained(
    model_class: type[M],
    hub_classes: Sequence[type[HubConfig]],
    folder_or_hub_id: str | Path,
    dtype: torch.dtype = torch.float32,
    **instead: Any,
) -> M:
    """A model from a checkpoint of one of `hub_classes`, in evaluation mode, on the CPU, in `dtype`. Heads that the
    checkpoint lacks get new random weights, with a warning. `instead` holds settings that replace its own.

    The memory that it takes is the model's and that of one tensor. Raises `InputError` for a checkpoint of another
    architecture, one that our model cannot express, or one whose tensors do not fit its `config.json`: before memory is
    reserved for a model of those sizes.
    """
    if dtype not in FLOATS:
        raise InputError(f"dtype={dtype} must be one of {', '.join(map(str, FLOATS))}")
    folder = checkpoint_folder(folder_or_hub_id)
    settings = read_config(folder)
    if "model" in settings:
        ours = str(settings["model"])[:100]
        raise InputError(f"{folder} holds a model saved by minitransformer: read it with {ours}.load")
    hub_class = architecture_of(folder, settings, hub_classes, model_class.__name__)
    if quantised := settings.get("quantization_config"):
        named = f"quantization_config={shown(quantised)}: quantised weights are not read"
        raise InputError(f"{folder / 'config.json'}: {named}; take the checkpoint that they were made from")
    if "auto_map" in settings:
        which = f"code of its own (auto_map), which is not run: the model may differ from {hub_class.title}"
        warnings.warn(f"{folder / 'config.json'} names {which}", stacklevel=3)
    tensors = read_tensors(folder)
    for old, new in OLD_NAMES.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    try:
        theirs = hub_class.from_json(settings | ids_of_other_files(folder, hub_class, settings) | instead)
        config: Any = model_class.config_class.from_dict(theirs.to_ours(tensors))
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    if (layers := config.distinct_layers()) > len(tensors):
        raise InputError(f"{folder}: config.json asks for {layers} layers of {len(tensors)} tensors in all")
    own, origin = own_shapes(lambda: model_class(config), str(folder), dtype), _titled(folder, settings)
    places, kept = _fit(tensors, theirs, config.to_dict(), own, origin)
    # Where all weights are read, none are drawn first.
    model = made_again(lambda: model_class(config)) if places.keys() == own.keys() else model_class(config)
    give_memory(model, dtype)
    own = own_tensors(model)

    def read(name: str) -> Tensor:
        tensor = kept[name].read()
        require_finite({name: tensor}, origin)
        return tensor

    with torch.no_grad():
        for name, place in places.items():
            if place.names:
                own[name].copy_(place.read(read))
            else:
                own[name].zero_()
    return model.eval()


def architecture_of(
    folder: Path, settings: Mapping[str, Any], hub_classes: Iterable[type[HubConfig]], reader: str
) -> type[HubConfig]:
    """The one of `hub_classes` that a checkpoint is of. A `config.json` of 2019 does not say: then the names of the
    tensors do. `InputError` for another one, with the name of the `reader` and what it reads."""
    known = {hub_class.model_type: hub_class for hub_class in hub_classes}
    kind = settings.get("model_type")
    if isinstance(kind, str) and kind in known:
        return known[kind]
    if kind is None and (prefix := _prefix_of(folder)) is not None:
        named_so = [hub_class for hub_class in known.values() if hub_class.prefix == prefix]
        if len(named_so) == 1:
            return named_so[0]
    reads = f"{reader} reads {', '.join(map(repr, known))}"
    if kind is None:
        way_out = f'write it there, such as "model_type": "bert"; {reads}'
        raise InputError(f'{folder / "config.json"} has no "model_type", the name of its architecture: {way_out}')
    raise InputError(f"{_titled(folder, settings)} is a checkpoint of {shown(kind)}; {reads}")


def _prefix_of(folder: Path) -> str | None:
    """What the names of most tensors in the folder begin with, "bert.", if there are any."""
    try:
        starts = Counter(name.partition(".")[0] + "." for name in read_tensors(folder))
    except InputError:
        return None
    return max(starts, key=lambda start: starts[start], default=None)


def _titled(folder: Path, settings: Mapping[str, Any]) -> str:
    """The folder, and the class of `transformers` that wrote it."""
    classes = settings.get("architectures")
    return f"{folder} ({shown(classes[0])})" if isinstance(classes, list) and classes else str(folder)


def _fit(
    tensors: dict[str, StoredTensor],
    theirs: HubConfig,
    ours: Mapping[str, Any],
    own: Mapping[str, Tensor],
    origin: str,
) -> tuple[dict[str, TheirTensor], dict[str, StoredTensor]]:
    """Where the checkpoint has each of our tensors but the heads that it lacks, and its `tensors` without those that
    have no place and, with a warning, heads of other tasks. `InputError` names the tensors that do not fit."""
    prefix = theirs.prefix if any(name.startswith(theirs.prefix) for name in tensors) else ""
    places = theirs.tensors(ours, prefix)
    tensors = {
        name: tensor for name, tensor in tensors.items() if not re.fullmatch(theirs.ignored, name.removeprefix(prefix))
    }
    for second, first in theirs.copies(prefix).items():
        if second in tensors:
            one, other = tensors.pop(second), tensors.get(first)
            if other is None:
                tensors[first] = one
            elif one.shape != other.shape or one.dtype not in FLOATS or not torch.equal(one.read(), other.read()):
                raise InputError(
                    f"{origin}: {second} differs from {first}, which it equals in a tied model: "
                    'to read both, set "tie_word_embeddings": false in config.json'
                )
    missing = []
    for start in theirs.heads:
        names = [at for name, place in places.items() if name.startswith(start) for at in place.names]
        if names and not any(name in tensors for name in names):
            missing.append(start)
    places = {name: place for name, place in places.items() if not name.startswith(tuple(missing))}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, place in places.items():
        shapes |= place.part_shapes(tuple(own[name].shape))
    # Beside a body whose names have the prefix, other names are of heads.
    outside = [name for name in tensors if not name.startswith(prefix)]
    foreign = [name for name in outside if name not in shapes and prefix + name not in shapes]
    tensors = {name: tensor for name, tensor in tensors.items() if name not in foreign}
    require_fit({at: torch.empty(shape, device="meta") for at, shape in shapes.items()}, tensors, origin)
    if missing:
        titles = " and no ".join(theirs.heads[start] for start in missing)
        warnings.warn(f"{origin} has no {titles}: it gets new random weights, which need training", stacklevel=4)
    if foreign:
        listed = ", ".join(foreign[:10])
        warnings.warn(f"{origin} has a head of another task, which is left out: {listed}", stacklevel=4)
    return places, tensors


def export_pretrained(
    model: Model, hub_class: type[HubConfig], folder: str | Path, tokenizer: Tokenizer | None = None
) -> Path:
    """Write a checkpoint that `transformers` reads: `config.json`, `model.safetensors`, and the files of a `tokenizer`.

    Raises `InputError`, before anything is written, for a model that the architecture cannot express or in which parts
    were exchanged, a tokenizer that does not fit the model, or a folder with a model saved by `Model.save`, whose files
    have the same names.
    """
    require_described(model, model.described())
    ours, own = model.config.to_dict(), own_tensors(model)
    theirs = hub_class.from_ours(ours)
    tensors: dict[str, Tensor] = {}
    for name, place in theirs.tensors(ours, theirs.prefix).items():
        tensors |= place.written(own[name])
    return write_checkpoint(folder, theirs, theirs.architecture(ours), tensors, tokenizer)


def write_checkpoint(
    folder: str | Path,
    theirs: HubConfig,
    architecture: str,
    tensors: dict[str, Tensor],
    tokenizer: Tokenizer | None,
    *,
    frame: tuple[int, int] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """The files of an `architecture` of `transformers`, with further `settings` in `config.json`. With a `frame`, the
    tokenizer puts these ids around a text: the model is a classifier."""
    folder = Path(folder)
    if (folder / "config.json").exists() and "model" in read_config(folder):
        raise InputError(f"{folder} holds a model saved by minitransformer, which would be lost: export elsewhere")
    config = theirs.to_dict()
    token_ids = {name: value for name, value in config.items() if name.endswith("_token_id")}
    names = {} if tokenizer is None else special_tokens(tokenizer, config["vocab_size"], token_ids)
    if theirs.generates and tokenizer is not None and "pad_token" in names:
        token_ids["pad_token_id"] = tokenizer.token_to_id(names["pad_token"])
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    head = {"architectures": [architecture], "model_type": theirs.model_type, "dtype": dtype}
    if frame is not None:
        config |= token_ids  # by its padding a causal model finds the last token
    write_json(folder / "config.json", head | config | dict(settings or {}))
    if theirs.generates and frame is None:
        write_json(folder / "generation_config.json", token_ids)
    if tokenizer is not None:
        generates, segments = theirs.generates and frame is None, getattr(theirs, "type_vocab_size", 1)
        options: dict[str, Any] = {"generates": generates, "has_segments": segments > 1, "frame": frame}
        write_tokenizer(tokenizer, names, folder, theirs.max_length(), **options)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    write_exported_card(folder, architecture, theirs.model_type, parameters, tokenizer=tokenizer is not None)
    return folder
