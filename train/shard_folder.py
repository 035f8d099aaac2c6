"""A checkpoint of a model that lies in shards: a folder, to which every process writes its own part.

step-00000120/
  shards/shard-00001-model-00001-of-00001.safetensors    what the first process holds, and so on
  state.safetensors                                      everything else, and the SHA-256 of each shard; sealed

Shards are written and read by `torch.distributed.checkpoint` in its format of safetensors, whose header says which part
of a tensor a file has: other numbers of processes find theirs, and nothing in it is a pickle.
"""

import json
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minitransformer.data.remembered import sha256
from minitransformer.files import flush_folder
from train.distributed import Processes
from train.sealed import ODDITIES, DamagedFileError, SealedFile, check_seal, write_sealed

STATE, SHARDS = "state.safetensors", "shards"


def write_shard_folder(
    folder: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Shared `tensors` from all processes at once, whole ones once; `own` and `metadata` are the first process's.

    The folder is made under another name and renamed when all of it is on disk.
    """
    processes = Processes.current()
    temporary = processes.from_main(lambda: _new_folder(folder))
    try:
        with _errors_of_all(processes, folder):
            import torch.distributed.checkpoint as dcp

            dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(f"{temporary / SHARDS}", None, 1, True))
        mine = {path.name: sha256(path) for path in (temporary / SHARDS).glob(f"shard-{processes.rank + 1:05}-*")}
        hashes = {name: found for part in processes.gather(mine) for name, found in part.items()}
        processes.from_main(
            lambda: _finish(temporary, folder, own, {**metadata, "shards": json.dumps(hashes, sort_keys=True)})
        )
    finally:
        if processes.is_main:
            shutil.rmtree(temporary, ignore_errors=True)


def _new_folder(folder: Path) -> Path:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    (temporary / SHARDS).mkdir(parents=True)
    return temporary


def _finish(temporary: Path, folder: Path, own: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    write_sealed(temporary / STATE, own, metadata)
    flush_folder(temporary / SHARDS)
    remove_checkpoint(folder)  # a folder takes no other's place; what is there is of the same step
    temporary.rename(folder)
    flush_folder(folder.parent)


@contextmanager
def _errors_of_all(processes: Processes, folder: Path) -> Iterator[None]:
    """What went wrong in any process is known to all; the operating system's errors are told by the first."""
    from torch.distributed.checkpoint import CheckpointException

    try:
        yield
    except CheckpointException as error:
        reasons = [reason for reason, _ in error.failures.values()]
        if (found := next((reason for reason in reasons if isinstance(reason, OSError)), None)) is None:
            raise RuntimeError(str(error)) from error
        if processes.is_main:
            raise OSError(found.errno, found.strerror, str(folder)) from error
        raise SystemExit(2) from error


def check_shard_folder(folder: Path) -> None:
    """Raises `DamagedFileError` unless every byte of every file is as it was written."""
    check_seal(folder / STATE)
    hashes = _hashes(folder)
    found = sorted(path.name for path in (folder / SHARDS).iterdir()) if (folder / SHARDS).is_dir() else []
    if found != sorted(hashes):
        raise DamagedFileError(f"{folder} is damaged: {SHARDS} has {len(found)} files, of the {len(hashes)} written")
    for name, expected in hashes.items():
        if sha256(folder / SHARDS / name) != expected:
            raise DamagedFileError(f"{folder / SHARDS / name} is damaged: its bytes do not add up to its checksum")


def _hashes(folder: Path) -> dict[str, str]:
    try:
        hashes = json.loads(SealedFile(folder / STATE).metadata["shards"])
        if not isinstance(hashes, dict):
            raise TypeError("they are no object")
        return hashes
    except ODDITIES as error:
        raise DamagedFileError(f"{folder / STATE} names no shards: {error}") from error


class ShardFolder:
    """One to read from, with the methods of a `SealedFile`. It is to be checked before."""

    def __init__(self, folder: Path):
        from torch.distributed.checkpoint import HuggingFaceStorageReader

        self.state = SealedFile(folder / STATE)
        self.reader = HuggingFaceStorageReader(str(folder / SHARDS))

    @property
    def metadata(self) -> dict[str, str]:
        return self.state.metadata

    def tensor(self, name: str) -> Tensor:
        """One of those that are no shards."""
        return self.state.tensor(name)

    def kinds(self) -> dict[str, Tensor]:
        kinds = self.state.kinds()
        for name, stored in self.reader.read_metadata().state_dict_metadata.items():
            parts: Any = stored
            whole = prod(parts.size) == sum(prod(chunk.sizes) for chunk in parts.chunks)
            if not whole or any(offset < 0 for chunk in parts.chunks for offset in chunk.offsets):
                raise ValueError(f"{name} is not there whole")
            kinds[name] = torch.empty(parts.size, dtype=parts.properties.dtype, device="meta")
        return kinds

    def read(self, targets: Mapping[str, Tensor]) -> None:
        """Fill these, each process its own part of those that are sharded there."""
        import torch.distributed.checkpoint as dcp

        with warnings.catch_warnings():
            # Each process reads for itself, as one that is alone does: no other has to wait, or fail, with it.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            try:
                dcp.load(dict(targets), storage_reader=self.reader, no_dist=True)
            except dcp.CheckpointException as error:
                reasons = "; ".join(str(reason) for reason, _ in error.failures.values())
                raise ValueError(reasons) from error


def remove_checkpoint(path: Path) -> None:
    """A file or a folder, if it is there. A folder first loses its name, so that it is never there in part."""
    if path.is_dir() and not path.is_symlink():
        temporary = path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}.part"))
        shutil.rmtree(temporary)
    else:
        path.unlink(missing_ok=True)
