"""What every configuration of a model has: checked fields, sane sizes, and a dictionary to be saved as."""

import dataclasses
from typing import Any, TypeVar, get_type_hints

from minitransformer.checks import choices, fits, require_number, type_name
from minitransformer.errors import InputError
from minitransformer.untrusted import shown

C = TypeVar("C", bound="Config")

MOST_PARAMETERS = 200_000_000_000
"""GPT-3 has 175 thousand million. A configuration with more is a mistake or an attack on the machine's memory."""
MOST_LAYERS = 10_000
LARGEST_NUMBER = 1 << 40
"""No size, id or rate of a model is larger."""


class Config:
    """Base of the frozen dataclass that holds a model's sizes. `__post_init__` checks the types of all fields,
    a `Literal`'s choices included; a subclass calls it, then checks their values with the `require_...` methods."""

    def __post_init__(self) -> None:
        annotations = get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, annotation = getattr(self, field.name), annotations[field.name]
            if not fits(value, annotation):
                names = choices(annotation)
                wanted = f"one of {', '.join(names)}" if names else f"of type {type_name(annotation)}"
                raise InputError(f"{field.name}={shown(value)} must be {wanted}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                require_number(field.name, value, at_most=LARGEST_NUMBER)
        self._require_sane_size()

    def distinct_layers(self) -> int:
        """The number of layers with parameters of their own; a file of weights has some tensors for each."""
        names = ("num_layers", "num_encoder_layers", "num_decoder_layers")
        return getattr(self, "num_hidden_groups", None) or sum(getattr(self, name, 0) for name in names)

    def _require_sane_size(self) -> None:
        """`InputError` for more layers or parameters than any model has, before memory is reserved for them.

        The estimate counts embeddings, and for each layer one matrix of attention or recurrence and one of the
        feed-forward: no model that exists comes near the limit.
        """

        def largest(*endings: str) -> int:
            return max((value or 0 for name, value in vars(self).items() if name.endswith(endings)), default=0)

        width, layers = largest("d_model", "hidden_size"), largest("layers")
        rows = largest("vocab_size") + (largest("max_length") if getattr(self, "positions", None) == "learned" else 0)
        parameters = width * (rows + layers * (width + largest("d_ff")))
        for what, count, most in (("layers", layers, MOST_LAYERS), ("parameters", parameters, MOST_PARAMETERS)):
            if count > most:
                raise InputError(f"{type(self).__name__}: these sizes give {count:,} {what} or more, over {most:,}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """Raises `InputError` for unknown, missing or mistyped fields, and for what the class itself refuses."""
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(fields)):
            raise InputError(f"{cls.__name__} has no {', '.join(unknown)[:200]}; it has {', '.join(fields)}")
        required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
        if missing := sorted(required - set(values)):
            raise InputError(f"{cls.__name__} needs {', '.join(missing)}")
        # JSON has lists only.
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def require_positive(self, *names: str) -> None:
        """Integers of at least 1, and floats that are more than 0 in float32 too; None passes."""
        annotations = get_type_hints(type(self))
        for name in names:
            require_number(name, getattr(self, name), at_least=1e-30 if fits(0.5, annotations[name]) else 1)

    def require_fraction(self, *names: str) -> None:
        for name in names:
            require_number(name, getattr(self, name), at_least=0, at_most=1)

    def require_multiple(self, name: str, divisor: str) -> None:
        if getattr(self, name) % getattr(self, divisor):
            raise InputError(f"{name}={getattr(self, name)} is not divisible by {divisor}={getattr(self, divisor)}")

    def require_ids(self, vocab_size: int, **ids: int) -> None:
        for name, value in ids.items():
            if not 0 <= value < vocab_size:
                raise InputError(f"{name}={shown(value)} is no id in a vocabulary of {vocab_size}")
        if len(set(ids.values())) < len(ids):
            raise InputError(f"{', '.join(f'{k}={v}' for k, v in ids.items())} must differ from one another")
