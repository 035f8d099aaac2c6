"""Whether a model is still what its configuration says. `save` writes the configuration and the weights, and would lose
a part that was exchanged, wrapped or switched on the instance."""

import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minitransformer.errors import InputError
from minitransformer.models.weights import own_tensors

T = TypeVar("T", bound=nn.Module)
_BOOKKEEPING = {*vars(nn.Module()), "_compiled_call_impl"}


def require_described(model: nn.Module, described: nn.Module) -> None:
    """`InputError` names the parts in which `model` differs from `described`, made from its configuration: classes of
    modules, their options, names and shapes of tensors, and values of buffers that are not saved. Weights, modes and
    hooks may differ. Of a module that is in both, only methods of its own are named: no configuration describes it."""
    theirs = _contents(described, undescribed={*model.modules()} & {*described.modules()})
    ours = _contents(model, theirs)
    wrong = [name for name in {**theirs, **ours} if not _equal(ours.get(name), theirs.get(name))]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"config.json cannot say what was exchanged in this {type(model).__name__}, and saving would lose it: "
            f"{', '.join(wrong[:5])}{more}; undo that, or keep the whole model with torch.save"
        )


class _WithoutWeights(TorchFunctionMode):
    """`torch.empty`, which makes the memory for parameters, reserves none."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return function(*args, **(kwargs | {"device": "meta"} if function is torch.empty else kwargs))


def made_again(build: Callable[[], T]) -> T:
    """What `build` makes, without memory for its weights if it can be made so, but with the values of its buffers.
    torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        try:
            with _WithoutWeights():
                model = build()
            if not any(buffer.is_meta for buffer in model.buffers()):
                return model
        except RuntimeError:  # it computes with its weights
            pass
        return build()


def _contents(
    model: nn.Module, known: Collection[str] | None = None, undescribed: Collection[nn.Module] = ()
) -> dict[str, Any]:
    """Shapes, buffers that are not saved, classes and options by name; of buffers and options that are not `known`,
    those options alone that hide a method, which an `undescribed` module should not have."""
    contents: dict[str, Any] = {name: tuple(tensor.shape) for name, tensor in own_tensors(model).items()}
    for name, buffer in model.named_buffers():
        name = name.replace("_orig_mod.", "")
        if known is None or name in known:
            contents.setdefault(name, buffer)
    for path, module in model.named_modules(remove_duplicate=False):
        if "_orig_mod" in module._modules:  # wrapped by torch.compile, which changes nothing
            continue
        path = path.replace("._orig_mod", "")
        contents[path] = type(module)
        for name, value in vars(module).items():
            option = f"{path}.{name}".lstrip(".")
            hides = inspect.isfunction(inspect.getattr_static(type(module), name, None))
            wanted = not (hides and module in undescribed) if known is None else option in known or hides
            if wanted and name not in _BOOKKEEPING:
                contents[option] = value
    return contents


def plain_options(module: nn.Module) -> dict[str, Any]:
    """The options of a module and its parts that are numbers, words or None, by name."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _BOOKKEEPING and isinstance(value, bool | int | float | str | None)
    }


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.cpu(), other.to("cpu", one.dtype))
    return one is other or (type(one) is type(other) and bool(one == other))
