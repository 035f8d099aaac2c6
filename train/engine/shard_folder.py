"""A checkpoint of a model that lies in shards: a folder, to which every process writes its own part.

step-00000120/
  shards/shard-00001-model-00001-of-00001.safetensors    what the first process holds, and so on
  state.safetensors                                      everything else, and the SHA-256 of each shard; sealed

Shards are written and read by `torch.distributed.checkpoint` in its format of safetensors, whose header says which part
of a tensor a file has: other numbers of processes find theirs, and nothing in it is a pickle.
"""

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minitransformer.files import flush_folder, sha256
from train.engine.processes import Processes, not_shared
from train.engine.sealed import ODDITIES, DamagedFileError, SealedFile, check_seal, write_sealed

STATE, SHARDS = "state.safetensors", "shards"


def write_shard_folder(
    folder: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Every process writes its shards of `tensors`; a tensor that is not sharded is written by one. The first process
    adds `own` and `metadata`.

    The folder is made under another name and renamed when all of it is on disk. Raises `InputError` where it does not
    lie where all processes reach it.
    """
    processes = Processes.current()
    temporary = processes.on_rank_0(lambda: _new_folder(folder))
    try:
        with _errors_of_all(processes, folder):
            import torch.distributed.checkpoint as dcp

            dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(f"{temporary / SHARDS}", None, 1, True))
        mine = {path.name: _flushed(path) for path in (temporary / SHARDS).glob(f"shard-{processes.rank + 1:05}-*")}
        hashes = {name: found for part in processes.gather(mine) for name, found in part.items()}
        processes.on_rank_0(
            lambda: _finish(temporary, folder, own, {**metadata, "shards": json.dumps(hashes, sort_keys=True)})
        )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _new_folder(folder: Path) -> Path:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    (temporary / SHARDS).mkdir(parents=True)
    return temporary


def _flushed(path: Path) -> str:
    """The checksum of a file of which the last byte is then on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return sha256(path)


def _finish(temporary: Path, folder: Path, own: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    if {path.name for path in (temporary / SHARDS).iterdir()} != json.loads(metadata["shards"]).keys():
        raise not_shared(folder.parent)
    write_sealed(temporary / STATE, own, metadata)
    flush_folder(temporary / SHARDS)
    remove_checkpoint(folder)  # a folder takes no other's place; what is there is of the same step
    temporary.rename(folder)
    flush_folder(folder.parent)


@contextmanager
def _errors_of_all(processes: Processes, folder: Path) -> Iterator[None]:
    """What went wrong in any process is known to all; the operating system's errors are told by the first. A process
    that was interrupted is so still."""
    from torch.distributed.checkpoint import CheckpointException

    try:
        yield
    except CheckpointException as error:
        reasons = [reason for reason, _ in error.failures.values()]
        mine, _ = error.failures.get(processes.rank, (None, None))
        if mine is not None and not isinstance(mine, Exception):
            raise mine from error
        if not all(isinstance(reason, Exception) for reason in reasons):
            raise SystemExit(2) from error
        if (found := next((reason for reason in reasons if isinstance(reason, OSError)), None)) is None:
            raise RuntimeError(str(error)) from error
        if processes.is_rank_0:
            raise OSError(found.errno, found.strerror, str(folder)) from error
        raise SystemExit(2) from error


def check_shard_folder(folder: Path) -> None:
    """Raises `DamagedFileError` unless every byte of every file is as it was written."""
    shards = list((folder / SHARDS).iterdir()) if (folder / SHARDS).is_dir() else []
    for path in (folder / STATE, *shards):
        if path.is_symlink() or not path.is_file():  # to read a pipe would take for ever
            raise DamagedFileError(f"{path} is no file")
    check_seal(folder / STATE)
    hashes = _hashes(folder)
    found = sorted(path.name for path in shards)
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
            if not _make_up([(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in parts.chunks], tuple(parts.size)):
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
                reasons = [reason for reason, _ in error.failures.values()]
                for reason in reasons:  # Ctrl-C, the disk and memory are no damage
                    not_ours = isinstance(reason, OSError | MemoryError | torch.OutOfMemoryError)
                    if not_ours or not isinstance(reason, Exception):
                        raise reason from error
                raise ValueError("; ".join(map(str, reasons))) from error


def _make_up(parts: Iterable[tuple[tuple[int, ...], tuple[int, ...]]], size: tuple[int, ...]) -> bool:
    """Whether parts, each by its offsets and sizes, are a tensor of this size, cut along its first dimension."""
    there = sorted(part for part in parts if prod(part[1]))
    if not size or not prod(size):
        return len(there) == prod(size)
    row = 0
    for offsets, sizes in there:
        if offsets != (row, *(0 for _ in size[1:])) or sizes[1:] != size[1:]:
            return False
        row += sizes[0]
    return row == size[0]


def remove_checkpoint(path: Path) -> None:
    """A file or a folder, if it is there. A folder first loses its name, so that it is never there in part."""
    if path.is_dir() and not path.is_symlink():
        temporary = path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}.part"))
        shutil.rmtree(temporary)
    else:
        path.unlink(missing_ok=True)
