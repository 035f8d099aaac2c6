"""Safetensors files that end with the SHA-256 of every byte before it, so that any damage is noticed.

Each is a plain safetensors file, whose last tensor is the checksum: it is written in one pass, while it is summed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic
from train.engine.direct_file import direct_file
from train.engine.shards import sharded_like

SEAL = "seal"
_SEAL_BYTES = 32
_CHUNK = 1 << 22
_TYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {name: dtype for dtype, name in _TYPES.items()}
"""Of what a file may hold, by the format's names."""
ODDITIES = (SafetensorError, RuntimeError, LookupError, TypeError, ValueError, OverflowError, AssertionError)
"""What readers raise for a file that is none of ours, though its checksum holds."""


class DamagedFileError(InputError):
    """A file is not what was written: it was cut short, or bytes of it changed."""


def write_sealed(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Written under another name, flushed to disk and renamed. The format allows strings alone as metadata."""
    # Wide elements first, which keeps every tensor aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header[SEAL] = {"dtype": "U8", "shape": [_SEAL_BYTES], "data_offsets": [end, end + _SEAL_BYTES]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    checksum = hashlib.sha256()
    # The checksum takes as long as the writing, and goes on beside it.
    with atomic(path) as temporary, direct_file(temporary) as write, ThreadPoolExecutor(1) as beside:
        summed = beside.submit(checksum.update, b"")
        header_bytes = len(encoded).to_bytes(8, "little") + encoded
        for part in chain([memoryview(header_bytes)], _parts(tensors[name] for name in names)):
            summed.result()  # no more than two parts are held at a time
            summed = beside.submit(checksum.update, part)
            write(part)
        summed.result()
        write(memoryview(checksum.digest()))


def _parts(tensors: Iterable[Tensor]) -> Iterable[memoryview]:
    """The bytes of one tensor after another: only one at a time is copied from its device."""
    for tensor in tensors:
        if tensor.numel():
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def check_seal(path: Path) -> None:
    """Raises `DamagedFileError` unless every byte of the file is as it was written."""
    checksum = hashlib.sha256()
    left = path.stat().st_size - _SEAL_BYTES
    with path.open("rb") as file:
        while left > 0 and (part := file.read(min(left, _CHUNK))):
            checksum.update(part)
            left -= len(part)
        if left != 0 or file.read() != checksum.digest():
            raise DamagedFileError(f"{path} is damaged: its bytes do not add up to its checksum")


class SealedFile:
    """One to read from, a tensor at a time. It is to be checked before."""

    def __init__(self, path: Path):
        self.file: Any = safe_open(path, framework="pt")

    @property
    def metadata(self) -> dict[str, str]:
        return self.file.metadata()

    def kinds(self) -> dict[str, Tensor]:
        """Shape and type of each tensor, without its numbers."""
        return {
            name: torch.empty(part.get_shape(), dtype=DTYPES[part.get_dtype()], device="meta")
            for name in self.file.keys()  # noqa: SIM118 - it is no dictionary
            for part in [self.file.get_slice(name)]
        }

    def tensor(self, name: str) -> Tensor:
        """A copy: the file may be gone before the run ends."""
        return self.file.get_tensor(name).clone()

    def read(self, targets: Mapping[str, Tensor]) -> None:
        """Fill these, one after another, each process its own part of those that are sharded there."""
        for name, target in targets.items():
            target.copy_(sharded_like(self.file.get_tensor(name), target))
