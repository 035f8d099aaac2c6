"""What the class of a Hugging Face architecture says: its settings, where each tensor lies, and both in our terms."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.models.config import Config
from minitransformer.untrusted import shown

H = TypeVar("H", bound="HubConfig")

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
"""Their names of activations and ours. Of two names of one function, old versions of `transformers` know the first."""


class TheirTensor(NamedTuple):
    """A tensor of ours as a checkpoint stores it: under one name, or as parts under several names, which ours stacks
    along its first dimension, in equal `shares` unless given. `transposed` tensors are stored as (in, out); `nn.Linear`
    has (out, in). A tensor of one name may be stored `again` under others; one of no name is zeros."""

    names: tuple[str, ...]
    transposed: bool = False
    shares: tuple[int, ...] = ()
    again: tuple[str, ...] = ()

    def part_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The shapes of their tensors if ours has `shape`."""
        parts = [(rows, *shape[1:]) for rows in self._rows(shape[0])]
        named = dict(zip(self.names, parts, strict=True)) | dict.fromkeys(self.again, shape)
        return {name: part[::-1] if self.transposed else part for name, part in named.items()}

    def read(self, read: Callable[[str], Tensor]) -> Tensor:
        """Our tensor; `read` gives theirs by name."""
        parts = [read(name).T if self.transposed else read(name) for name in self.names]
        for name in self.again:
            if not torch.equal(read(name), parts[0]):
                raise InputError(f"{name} differs from {self.names[0]}: only equal ones are read")
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def written(self, tensor: Tensor) -> dict[str, Tensor]:
        parts = tensor.detach().split(self._rows(len(tensor)))
        written = {
            name: (part.T if self.transposed else part).contiguous()
            for name, part in zip(self.names, parts, strict=True)
        }
        return written | {name: written[self.names[0]].clone() for name in self.again}

    def _rows(self, rows: int) -> list[int]:
        shares = self.shares or (1,) * len(self.names)
        return [rows * share // sum(shares) for share in shares]


class HubConfig(Config, ABC):
    """A Hugging Face architecture's settings, under its names and with its defaults, and their conversion to ours."""

    model_type: ClassVar[str]
    title: ClassVar[str]
    prefix: ClassVar[str]
    """The prefix of the names of all tensors but the heads'; a checkpoint without heads leaves it out."""
    ignored: ClassVar[str]
    """A pattern of the names, without the prefix, of tensors that are not learned."""
    generates: ClassVar[bool]
    """Whether the model continues texts, which must therefore not end in [EOS]."""
    same: ClassVar[Mapping[str, str]]
    """Fields of our configuration, and the settings that have the same meaning."""
    constants: ClassVar[Mapping[str, Any]]
    """Fields of our configuration that have one value in every such model."""
    only: ClassVar[Mapping[str, Any]]
    """Settings that are supported with this value only."""
    heads: ClassVar[Mapping[str, str]] = {}
    """Heads that a checkpoint may lack: the prefix of our tensors' names, and what a warning calls the head."""
    activations: ClassVar[Mapping[str, str]] = ACTIVATIONS
    """Their names of the activations that are computed, and ours. Of two names of one, the first is written."""
    special_tokens: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Settings that a `config.json` may leave to the tokenizer, and the names of their tokens there."""

    @classmethod
    def from_json(cls: type[H], settings: dict[str, Any]) -> H:
        """The settings of a `config.json` that matter here; `InputError` for a value of the wrong type or one that our
        model does not support."""
        for name, value in cls.only.items():
            if settings.get(name, value) != value:
                raise InputError(f"{name}={shown(settings[name])}: only {value!r} is supported")
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in settings.items() if name in known})

    @classmethod
    def from_ours(cls: type[H], ours: dict[str, Any]) -> H:
        """From the fields of our configuration; `InputError` names those that the architecture cannot express."""
        rest = {name: value for name, value in ours.items() if name not in cls.same}
        settings = {theirs: ours[name] for name, theirs in cls.same.items()}
        if ours["attention_dropout"] is None:
            settings[cls.same["attention_dropout"]] = ours["dropout"]
        if names := [theirs for theirs, name in cls.activations.items() if name == ours["activation"]]:
            settings[cls.same["activation"]] = names[0]
        else:
            rest["activation"] = ours["activation"]
        if rest["num_kv_heads"] in (None, ours["num_heads"]):
            del rest["num_kv_heads"]
        settings |= cls._own_from_ours(rest, settings)
        # This refuses fields that are added to our configuration and unknown to the architecture's file, too.
        if foreign := [f"{k}={v!r}" for k, v in rest.items() if k not in cls.constants or v != cls.constants[k]]:
            raise InputError(f"{cls.title}'s format cannot express {', '.join(foreign)}: keep the model with save")
        return cls(**settings)

    def to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        """The fields of our configuration; the names of the checkpoint's `tensors` tell which heads it has.
        `InputError` names a setting that our model cannot express."""
        fields = {name: getattr(self, theirs) for name, theirs in self.same.items()} | dict(self.constants)
        if fields["activation"] not in self.activations:
            given = f"{self.same['activation']}={shown(fields['activation'])}"
            raise InputError(f"{given} must be one of {', '.join(self.activations)}")
        fields["activation"] = self.activations[fields["activation"]]
        if fields["attention_dropout"] == fields["dropout"]:
            fields["attention_dropout"] = None
        return fields | self._own_to_ours(tensors)

    @classmethod
    @abstractmethod
    def _own_from_ours(cls, rest: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Further settings; removes from `rest` the fields of ours that they express."""

    @abstractmethod
    def _own_to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        """Further fields of our configuration."""

    def max_length(self) -> int:
        """The most tokens that the model reads."""
        return int(getattr(self, self.same["max_length"]))

    @abstractmethod
    def architecture(self, ours: Mapping[str, Any]) -> str:
        """The class of `transformers` that reads an export of a model with our configuration `ours`."""

    @abstractmethod
    def tensors(self, ours: Mapping[str, Any], prefix: str) -> dict[str, TheirTensor]:
        """For each tensor of our model, how a checkpoint with this `prefix` stores it."""

    @abstractmethod
    def copies(self, prefix: str) -> dict[str, str]:
        """Names under which a checkpoint may store a tied tensor a second time, and its first name."""


@dataclasses.dataclass(frozen=True)
class CausalHubConfig(HubConfig):
    """A model that continues texts, with the ids that begin and end them."""

    generates: ClassVar[bool] = True

    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def _own_from_ours(cls, rest: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        eos_id, bos_id = rest.pop("eos_id"), rest.pop("bos_id")
        others = rest.pop("stop_ids")
        # Without a prompt, text starts after an end-of-text.
        return {
            "bos_token_id": eos_id if bos_id is None else bos_id,
            "eos_token_id": [eos_id, *others] if others else eos_id,
        }

    def _own_to_ours(self, tensors: Collection[str]) -> dict[str, Any]:
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        size = getattr(self, "vocab_size", 0)
        if not ends or not all(isinstance(end, int) and 0 <= end < size for end in ends):
            raise InputError(
                f"eos_token_id={shown(self.eos_token_id)} is no id in a vocabulary of {size}: "
                "set it in config.json to the id of the token that ends a text"
            )
        known = self.bos_token_id is not None and 0 <= self.bos_token_id < size
        bos_id = self.bos_token_id if known and self.bos_token_id != ends[0] else None
        return {"eos_id": ends[0], "stop_ids": tuple(ends[1:]), "bos_id": bos_id}
