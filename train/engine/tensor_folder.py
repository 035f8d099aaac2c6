"""A folder of safetensors and JSON files with checksums: how one checkpoint lies on disk, of one process or of several.

    model.safetensors        the tensors; of a model in shards a file a process, model-00001-of-00002.safetensors, ...
    optimizer.safetensors    the same of the optimizer's state
    values.json              everything that is no tensor
    SHA256SUMS               the checksum of every other file; `sha256sum -c SHA256SUMS` checks them too

Every file has a plain format and nothing in it is a pickle. Each process of a sharded model (FSDP) writes its own rows
of every tensor, so that the rows of all files, in order, are the whole tensor: any number of processes can read it.
"""

import os
import re
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import disk_errors, flush_folder, sha256, write_json
from minitransformer.models.weights import read_safetensors
from minitransformer.untrusted import read_json
from train.engine.data_parallel import is_sharded, own_rows
from train.engine.processes import Processes, not_shared

VALUES, CHECKSUMS = "values.json", "SHA256SUMS"


class DamagedError(InputError):
    """A folder is not as it was written: a file is missing, cut short or changed."""


def write_tensor_folder(folder: Path, groups: Mapping[str, Mapping[str, Tensor]], values: Any) -> None:
    """Write the tensors of each group ("model", "optimizer") and the JSON `values`. All processes have to call it.

    The folder is made under a temporary name, flushed to disk and renamed, so that it is there whole or not at all.
    Raises `OSError`, or `InputError` if the processes do not share this folder, on one rank; the others exit.
    """
    processes = Processes.current()
    temporary = processes.on_rank_0(lambda: _new_folder(folder))
    try:
        written = processes.agreed(lambda: dict(_write_tensors(temporary, groups, processes)))
        checksums = {name: checksum for part in processes.gather(written) for name, checksum in part.items()}
        processes.on_rank_0(lambda: _finish(temporary, folder, values, checksums))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _new_folder(folder: Path) -> Path:
    temporary = _temporary_name(folder)
    temporary.mkdir(parents=True)
    return temporary


def _temporary_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")


def _write_tensors(
    temporary: Path, groups: Mapping[str, Mapping[str, Tensor]], processes: Processes
) -> Iterator[tuple[str, str]]:
    """Write what this process holds: of a sharded group its rows, else on rank 0 everything. Yields name and checksum
    of each file."""
    if not temporary.is_dir():
        raise not_shared(temporary.parent)
    for group, tensors in groups.items():
        sharded = any(map(is_sharded, tensors.values()))
        name = f"{group}-{processes.rank + 1:05}-of-{processes.world_size:05}" if sharded else group
        mine = {name: own_rows(tensor) for name, tensor in tensors.items() if is_sharded(tensor) or processes.is_rank_0}
        if mine:
            path = temporary / f"{name}.safetensors"
            with disk_errors(path):
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in mine.items()}, path)
            yield path.name, _flush(path)


def _flush(path: Path) -> str:
    """Wait until a file is on disk. Returns its checksum."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return sha256(path)


def _finish(temporary: Path, folder: Path, values: Any, checksums: dict[str, str]) -> None:
    write_json(temporary / VALUES, values)
    if {path.name for path in temporary.iterdir()} != {VALUES, *checksums}:
        raise not_shared(folder.parent)
    checksums[VALUES] = sha256(temporary / VALUES)
    (temporary / CHECKSUMS).write_bytes(_listing(checksums))
    _flush(temporary / CHECKSUMS)
    flush_folder(temporary)
    remove_folder(folder)
    temporary.rename(folder)
    flush_folder(folder.parent)


def _listing(checksums: Mapping[str, str]) -> bytes:
    """The content of SHA256SUMS."""
    return "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums)).encode()


def remove_folder(folder: Path) -> None:
    """Remove a folder if it is there. It loses its name first, so that a half-removed one is never mistaken for it."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder.rename(_temporary_name(folder)))


def require_undamaged(folder: Path) -> None:
    """Read every byte of every file. Raises `DamagedError` unless all are as they were written."""
    if folder.is_symlink() or not folder.is_dir():
        raise DamagedError(f"{folder} is missing" if not folder.exists() else f"{folder} is not a folder")
    files = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    for path in files.values():
        if path.is_symlink() or not path.is_file():  # reading a pipe would take for ever
            raise DamagedError(f"{path} is not a plain file")
    listed = read_checksums(folder)
    if files.keys() != {CHECKSUMS, *listed}:
        raise DamagedError(f"{folder} is damaged: it holds {_names(files)}, and {CHECKSUMS} lists {_names(listed)}")
    if files[CHECKSUMS].read_bytes() != _listing(listed):
        raise DamagedError(f"{files[CHECKSUMS]} is damaged: its lines have changed")
    for name, checksum in listed.items():
        if sha256(files[name]) != checksum:
            raise DamagedError(f"{files[name]} is damaged: its bytes do not match its checksum")


def read_checksums(folder: Path) -> dict[str, str]:
    """The checksums that a folder lists, by the name of the file; none if the list is missing."""
    try:
        lines = (folder / CHECKSUMS).read_bytes().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return {}
    return {name: checksum for line in lines for checksum, _, name in [line.partition("  ")] if line}


def _names(files: Mapping[str, Any]) -> str:
    return ", ".join(sorted(files)) or "nothing"


def read_values(folder: Path) -> dict[str, Any]:
    """What `write_tensor_folder` was given as `values`. `InputError` if that is not an object."""
    values = read_json(folder / VALUES)
    if not isinstance(values, dict):
        raise InputError(f"{folder / VALUES} is not an object")
    return values


def read_tensors(folder: Path, group: str) -> dict[str, list[Tensor]]:
    """The rows of every tensor in the order of their files, memory-mapped: `joined` makes one tensor of them."""
    names = re.compile(rf"{group}(-\d{{5}}-of-\d{{5}})?\.safetensors")
    rows: dict[str, list[Tensor]] = defaultdict(list)
    for path in sorted(path for path in folder.iterdir() if names.fullmatch(path.name)):
        for name, tensor in read_safetensors(path).items():
            rows[name].append(tensor)
    return rows


def joined(rows: Sequence[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(list(rows))


def without_numbers(rows: Sequence[Tensor]) -> Tensor:
    """Shape and type of a joined tensor, on the meta device. `ValueError` or `RuntimeError` if its rows do not fit."""
    if len({part.dtype for part in rows}) > 1:
        raise ValueError("the rows of a tensor are of different types")
    return joined([torch.empty_like(part, device="meta") for part in rows])
