"""What decoding knows of a model, whichever it is."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Decodable(Protocol):
    """`start` reads the inputs (B, S) and gives the logits (B, V) of the first new token and a state; `step` reads one
    token per row and gives the logits of the next.

    The state is the model's own affair, but for `state.select(rows)`, which gives the state of these rows, repeated or
    left out at will, and leaves the state itself as it is.

    A state may have `reorder(rows)` too, the same for a state that is not needed any more: its memory may serve again.
    `beam_search` calls it where there is one, at every step, with the rows that go on.
    """

    @property
    def config(self) -> Any: ...

    def start(self, inputs: Tensor, valid: Tensor | None = None, *, max_new_tokens: int) -> tuple[Tensor, Any]: ...

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]: ...
