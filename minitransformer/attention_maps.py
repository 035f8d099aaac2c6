"""Looking at attention: which tokens each query took its mean over."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class AttentionMap(nn.Module):
    """A parameterless place where attention happens, for `record_attention` to watch.

    A subclass has, beside `forward`, a `weights` that takes the same arguments and gives the map (B, H, T, S).
    """

    def weights(self, *args: Any, **kwargs: Any) -> Float[Tensor, "batch heads query key"]:
        raise TypeError(f"{type(self).__name__} does not say what its attention weights are")


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, Float[Tensor, "batch heads query key"]]]:
    """Collect every attention map of `model` while the block runs: {path of the attention module: (B, H, T, S)}.

    The calls of a module, all of one batch size, are concatenated along T, with zeros for keys that a call did not
    have yet, so that greedy decoding gives the maps of one pass over the whole sequence. Columns are slots of the
    cache: tokens in order, until a full cache overwrites its oldest. A module that is shared by n layers has n paths,
    and call i is filed under path i mod n.
    """
    maps: dict[str, Tensor] = {}
    paths: dict[AttentionMap, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, AttentionMap):
            # Named after the attention that owns it: "decoder.0.cross_attention", not "....attend".
            paths.setdefault(module, []).append(path.rpartition(".")[0])

    def watch(module: AttentionMap) -> Any:
        turn = itertools.cycle(paths[module])

        @torch.no_grad()
        def hook(_: Any, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            path, weights = next(turn), module.weights(*args, **options)
            if path in maps:
                earlier = F.pad(maps[path], (0, max(0, weights.shape[-1] - maps[path].shape[-1])))
                weights = F.pad(weights, (0, max(0, earlier.shape[-1] - weights.shape[-1])))
                weights = torch.cat([earlier, weights], dim=2)
            maps[path] = weights

        return module.register_forward_hook(hook, with_kwargs=True)

    handles = [watch(module) for module in paths]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
