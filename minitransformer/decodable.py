"""The decoding protocol: what `greedy`, `sample`, `stream` and `beam_search` ask of a model."""

import math
import warnings
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.masks import require_bool

MOST_NEW_TOKENS = 1_000_000


@runtime_checkable
class Decodable(Protocol):
    """`start` reads the inputs and returns the logits of the first new token and a state; `step` reads one token per
    row and returns the logits of the next.

    The first axis of the inputs is the batch: ids (B, S), images (B, C, H, W), spectrograms (B, T, F). `valid` is
    handed on as it was given. The state is the model's own, but for `state.select(rows)`: the state of these rows,
    repeated or left out at will, which leaves the state itself as it is.

    A state may also have `reorder(rows)`: the same, where the state itself is not used again, so that its memory may
    be. `beam_search` calls it, where it exists, at every step with the rows that go on.
    """

    @property
    def config(self) -> Any: ...

    def start(
        self,
        inputs: Shaped[Tensor, "batch *input"],
        valid: Bool[Tensor, "batch *place"] | None = None,
        *,
        max_new_tokens: int,
    ) -> tuple[Float[Tensor, "batch vocab"], Any]: ...

    def step(self, ids: Int[Tensor, " batch"], state: Any) -> tuple[Float[Tensor, "batch vocab"], Any]: ...


def require_inputs(inputs: Any, valid: Tensor | None) -> None:
    """`InputError` for inputs that are no tensor with an axis for the batch, and for a `valid` that is not bool."""
    if not isinstance(inputs, Tensor) or not inputs.dim():
        given = "one number" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise InputError(f"inputs must be a tensor whose first axis is the batch, such as ids (B, S); this is {given}")
    require_bool(valid=valid)


def warn_in_training(model: Any) -> None:
    """A warning for a model in training mode, whose dropout makes its choices random."""
    if getattr(model, "training", False):
        warnings.warn("the model decodes in training mode, with dropout: call model.eval() first", stacklevel=3)


def require_scores(scores: Float[Tensor, "rows scores"]) -> None:
    """`InputError` for logits or probabilities that are NaN, +∞ or all -∞, by which none can be chosen."""
    # Compared in Python: a few tensor operations take longer.
    if not all(map(math.isfinite, scores.amax(-1).tolist())):
        raise InputError(
            "the model's scores are NaN or infinite: some of its weights are too large, as after a training that "
            "diverged; take an earlier checkpoint, or train with a lower learning rate"
        )
