"""The files of a checkpoint: a folder or a repository of the hub, and the tensors in it."""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from minitransformer.errors import InputError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The file of tensors, the first that is there; where it is cut into several, NAME.index.json says which holds what."""

WEIGHTS_OF_HUB = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
"""What is fetched: no pickles."""


def checkpoint_folder(folder_or_hub_id: str | Path) -> Path:
    """The folder itself, or that of a hub repository, `name` or `owner/name`, in the hub's cache on this machine.

    The hub's files are fetched where it can be reached; otherwise, and with HF_HUB_OFFLINE=1, what is in the cache
    counts. Its tokenizer is `load_tokenizer(folder / "tokenizer.json")`. `InputError` if there is neither.
    """
    folder = Path(folder_or_hub_id).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{folder} is a file: give the folder that holds config.json")
    repository = str(folder_or_hub_id)
    if isinstance(folder_or_hub_id, Path) or not re.fullmatch(
        r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", repository
    ):
        raise InputError(f"no such folder: {folder}")
    import huggingface_hub

    reason = ""
    try:
        # One quick question: a download tries an unreachable hub again and again.
        huggingface_hub.HfApi().model_info(repository, timeout=10)
    except Exception as error:  # the HTTP client's own errors, whose classes change with huggingface_hub's version
        reason = " ".join(str(error).split()) or type(error).__name__
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository,
                allow_patterns=["config.json", *WEIGHTS_OF_HUB, "tokenizer.json", "tokenizer_config.json"],
                local_files_only=bool(reason),
            )
        )
    except Exception as error:  # as above
        reason = reason or " ".join(str(error).split())
        raise InputError(
            f"{repository} is no folder, it cannot be had from Hugging Face's hub ({reason}), and no copy of it is in "
            "the hub's cache: without a network, give the path of a folder of config.json and model.safetensors"
        ) from error


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by their names in it; safetensors are mapped into memory, not read.

    Raises `InputError` for missing or damaged files and for pickles that hold anything but tensors.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _read_file(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder / f"{name}.index.json")
    raise InputError(f"{folder} has no weights: neither {' nor '.join(WEIGHTS)}, nor either's .index.json")


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{index} is not an index of shards: it has no readable weight_map") from error
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise InputError(f"{index} is not an index of shards: its weight_map does not give each tensor a file")
    shards: dict[str, dict[str, Tensor]] = {}
    for file in sorted(set(files.values())):
        # Plain names only, which cannot leave the folder. Resolved paths do: the hub's cache is made of links.
        if Path(file).name != file or file == "..":
            raise InputError(f"{index} names {file!r}, which is not the name of a file beside it")
        if not (index.parent / file).is_file():
            raise InputError(f"{index.parent} is incomplete: it has no {file}, which {index.name} names")
        shards[file] = _read_file(index.parent / file)
    return {name: shards[file][name] for name, file in files.items() if name in shards[file]}


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is damaged: {error}") from error
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler raises whatever a damaged file leads it to
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {foreign[1]}, and a pickle can run any code" if foreign else "it is damaged"
        raise InputError(f"{path} is refused: {reason}; a checkpoint in model.safetensors would do") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise InputError(f"{path} does not hold tensors by name, and nothing else")
    return tensors
