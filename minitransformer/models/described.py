"""Whether a model is still what its configuration says. `save` writes the configuration and the weights, and would lose
a part that was exchanged, wrapped or switched on the instance."""

from collections.abc import Collection
from typing import Any

from torch import nn

from minitransformer.errors import InputError
from minitransformer.models.weights import own_tensors

_BOOKKEEPING = {*vars(nn.Module()), "_compiled_call_impl"}


def require_described(model: nn.Module, described: nn.Module) -> None:
    """`InputError` names the parts in which `model` differs from `described`, made from its configuration: classes of
    modules, their options, names and shapes of tensors. Weights, modes and hooks may differ."""
    theirs = _contents(described)
    ours = _contents(model, theirs)
    wrong = [name for name in {**theirs, **ours} if not _equal(ours.get(name), theirs.get(name))]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"config.json cannot say what was exchanged in this {type(model).__name__}, and saving would lose it: "
            f"{', '.join(wrong[:5])}{more}; undo that, or keep the whole model with torch.save"
        )


def _contents(model: nn.Module, known: Collection[str] | None = None) -> dict[str, Any]:
    """Shapes, classes and options by name; of options that are not `known`, those alone that hide a method."""
    contents: dict[str, Any] = {name: tuple(tensor.shape) for name, tensor in own_tensors(model).items()}
    for path, module in model.named_modules(remove_duplicate=False):
        if "_orig_mod" in module._modules:  # wrapped by torch.compile, which changes nothing
            continue
        path = path.replace("._orig_mod", "")
        contents[path] = type(module)
        for name, value in vars(module).items():
            option = f"{path}.{name}".lstrip(".")
            if name not in _BOOKKEEPING and (known is None or option in known or hasattr(type(module), name)):
                contents[option] = value
    return contents


def _equal(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))
