"""Tensors that lie in shards, a part of each in every process, and how they become whole and are cut up again."""

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def unsharded(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may lie in shards. All processes have to ask for it."""
    return getattr(tensor, "full_tensor", lambda: tensor)()


def sharded_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """This process's part of a whole `tensor` that every process has, cut as `pattern` is; itself, if that is whole.

    A tensor of another shape, such as an optimizer's count of steps, stays whole.
    """
    tensor = tensor.to(pattern.device)
    if not is_sharded(pattern) or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(pattern, DTensor)
    with torch.no_grad():
        return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None)
