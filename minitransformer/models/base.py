"""What every model has: a configuration, parameters to count, a folder to be saved to and loaded from."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from minitransformer.errors import InputError
from minitransformer.files import write_json
from minitransformer.kernels import current_call, transformed
from minitransformer.masks import require_bool
from minitransformer.models.config import Config as Config
from minitransformer.models.described import made_again, require_described
from minitransformer.models.weights import (
    copy_weights,
    own_shapes,
    read_safetensors,
    require_finite,
    require_fit,
    save_weights,
)
from minitransformer.untrusted import PICKLES, pickle_refused, read_json, shown

M = TypeVar("M", bound="Model")

Ids = Int[Tensor, "batch time"]
Valid = Bool[Tensor, "batch time"]
"""Which tokens are real."""

NEVER = -(1 << 63)
"""The target that cross-entropy passes over; torch's own is -100."""


class Memory(NamedTuple):
    """What `encode` returns: hidden states (B, S, D), which of them are real, and an RNN's last state."""

    states: Float[Tensor, "batch source d_model"]
    valid: Bool[Tensor, "batch source"]
    final: tuple[Tensor, ...] | None = None

    def select(self, rows: Tensor) -> "Memory":
        final = None if self.final is None else tuple(x[rows] for x in self.final)
        return Memory(self.states[rows], self.valid[rows], final)


class Loss(NamedTuple):
    """A loss as a sum in nats and the number of targets in it, so that batches add up exactly."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count


def target_loss(
    logits: Float[Tensor, "targets vocab"],
    targets: Int[Tensor, " targets"],
    name: str = "targets",
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Summed cross-entropy; smoothing spreads `label_smoothing` over the whole vocabulary (Szegedy et al. 2016).

    Raises `InputError` for a target out of range, as `embedded` does, -100 included; `name` is its key in the batch.
    """
    options: dict[str, Any] = {"reduction": "sum", "label_smoothing": label_smoothing, "ignore_index": NEVER}
    look_first(name, targets, logits.shape[1])
    try:
        return F.cross_entropy(logits.float(), targets.long(), **options)
    except IndexError:
        require_known(name, targets, logits.shape[1])
        raise


def embedded(embedding: nn.Module, name: str, ids: Int[Tensor, "*shape"], size: int) -> Float[Tensor, "*shape width"]:
    """`embedding(ids)`; `InputError` with the `name` of the argument for an id that is none of the `size` known ones.

    Every id and segment that a model reads comes here. On a CPU torch looks at each anyway.
    """
    look_first(name, ids, size)
    try:
        return embedding(ids)
    except IndexError:
        require_known(name, ids, size)
        raise


def look_first(name: str, ids: Int[Tensor, "*shape"], size: int) -> None:
    """`require_known` before ids are looked up on a GPU, where torch's own assertion would end the program.

    The look waits for all that the GPU has still to do, which costs a training step of GPT-2 less than its times differ
    by (docs/results.md). It is left out where the ids are the model's own choices (`one_call`), and where nothing can
    wait: under `torch.func`, and in a graph that is compiled or captured.
    """
    if ids.is_cpu or ids.is_meta or torch.compiler.is_compiling() or transformed() or current_call():
        return
    if ids.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return
    require_known(name, ids, size)


def require_known(name: str, ids: Int[Tensor, "*shape"], size: int) -> None:
    """`InputError` for an id that is not from 0 to `size` - 1."""
    if not ids.numel():
        return
    ids = ids.cpu()  # one copy, and so one wait: to look on the GPU and then copy what it found takes longer
    lowest, highest = torch.aminmax(ids)
    if lowest < 0 or highest >= size:
        unknown = ids[(ids < 0) | (ids >= size)]
        raise InputError(f"{name}: {int(unknown[0])} is out of range: the model knows 0 to {size - 1}")


def require_ids(name: str, ids: Any) -> None:
    """`InputError` for anything but a tensor (batch, time) of the integers that torch looks up."""
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
        given = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else f"a {type(ids).__name__}"
        raise InputError(f"{name} must be a tensor (batch, time) of int64 or int32; it is {given}")


def require_shape_of(ids: Ids, **others: Tensor | None) -> None:
    """`InputError` for what `require_ids` refuses, and for a tensor of another shape than `ids`, which would be
    broadcast, or of another kind than its name says: `valid` is bool, ids are integers."""
    require_ids("ids", ids)
    for name, given in others.items():
        if given is None:
            continue
        if name.endswith("valid"):
            require_bool(**{name: given})
        else:
            _require_integers(name, given)
        if given.shape != ids.shape:
            raise InputError(f"{name} of shape {tuple(given.shape)} does not fit ids of shape {tuple(ids.shape)}")


def _require_integers(name: str, given: Any) -> None:
    if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_floating_point():
        raise InputError(f"{name} must be integers in a tensor; it is {getattr(given, 'dtype', type(given))}")


def require_rows_of(rows: Shaped[Tensor, "batch *shape"], **others: Tensor | None) -> None:
    """`InputError` for labels that are not one integer for each of `rows`, and for ids that are not a row for each."""
    for name, given in others.items():
        if given is not None and name.endswith("labels"):
            _require_integers(name, given)
        if given is not None and (given.shape[0] != rows.shape[0] or (name.endswith("labels") and given.dim() != 1)):
            raise InputError(f"{name} of shape {tuple(given.shape)} does not fit {len(rows)} rows")


class Model(nn.Module, ABC):
    """An `nn.Module` built from one configuration and saved as `config.json` and `model.safetensors`."""

    config_class: ClassVar[type[Config]]
    config: Any

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """The terms of the training loss over a batch, by name, each as a sum and a count."""

    @abstractmethod
    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The counts of `loss`, known from the batch alone."""

    @classmethod
    def from_config(cls: type[M], config: Any) -> M:
        """A new model of this configuration."""
        return cls(config)

    def num_parameters(self) -> int:
        """Trainable numbers; a parameter shared by several places counts once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def save(self, folder: str | Path) -> Path:
        """Write the configuration and the weights, shared tensors once.

        Raises `InputError` for a model in which a part was exchanged, so that the configuration does not describe it.
        """
        kind = type(self)
        if any(base.__name__ == kind.__name__ for base in kind.__mro__[1:]):
            raise InputError(
                f"{kind.__module__}.{kind.__name__} has the name of its base class, as which it would load"
            )
        require_described(self, self.described())
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model": type(self).__name__, **self.config.to_dict()}
        write_json(folder / "config.json", config)
        save_weights(self, folder / "model.safetensors")
        return folder

    def described(self) -> nn.Module:
        """A new model of this configuration, without memory for its weights if it can be made so."""
        try:
            return made_again(lambda: self.from_config(self.config))
        except TypeError as error:
            name = type(self).__name__
            raise InputError(f"a {name} is not made of its config alone: override {name}.from_config") from error

    @classmethod
    def load(cls: type[M], folder: str | Path) -> M:
        """The saved model, in evaluation mode, on the CPU.

        Raises `InputError` for a folder that holds no such model, or whose tensors do not fit its configuration: before
        memory is reserved for a model of those sizes.
        """
        folder = Path(folder)
        config = read_config(folder)
        name = config.pop("model", None)
        if name != cls.__name__:
            raise InputError(f'{folder} does not hold a {cls.__name__}: its config.json says "model": {shown(name)}')
        try:
            parsed = cls.config_class.from_dict(config)
            num_layers = parsed.distinct_layers()
        except InputError as error:
            raise InputError(f"{folder / 'config.json'}: {error}") from error
        weights = folder / "model.safetensors"
        if not weights.exists():
            if pickles := sorted(path for path in folder.iterdir() if path.suffix in PICKLES):
                raise pickle_refused(pickles[0], f"{folder} needs a model.safetensors")
            raise InputError(f"{folder} is half-written: it has a config.json but no model.safetensors")
        tensors = read_safetensors(weights)
        if num_layers > len(tensors):
            raise InputError(f"{weights} does not fit the model: {num_layers:,} layers, but {len(tensors)} tensors")
        require_fit(own_shapes(lambda: cls.from_config(parsed), str(folder)), tensors, str(weights))
        require_finite(tensors, str(weights))
        model = cls.from_config(parsed)
        copy_weights(model, tensors)
        return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """The settings in the `config.json` of a saved model; `InputError` for a folder without one, or a damaged one."""
    path = folder / "config.json"
    if not path.exists():
        if folder.is_file() and folder.suffix in PICKLES:
            raise pickle_refused(folder, "give a folder of config.json and model.safetensors")
        reason = "has no config.json" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
        # "owner/name" looks like a repository of the hub, unless there is a folder "owner".
        if len(folder.parts) == 2 and not folder.parent.exists():
            reason += "; give a local folder, or read a model from the hub with from_pretrained first"
        raise InputError(f"{folder} is not a saved model: it {reason}")
    config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path} holds a {type(config).__name__}, not an object of settings")
    config.pop("tokenizers", None)  # for `load_tokenizer`
    return config
