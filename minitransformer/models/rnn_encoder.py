"""The recurrent encoder: states of every source token, and the last state of each layer and direction."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.models.rnn_cells import CELLS, Cell, State


class RecurrentEncoder(nn.Module):
    """A GRU or LSTM over the source in one or both directions; equals torch's on packed sequences."""

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, num_layers: int, *, bidirectional: bool, dropout: float
    ):
        super().__init__()
        self.directions = 2 if bidirectional else 1
        self.hidden_size = hidden_size
        self.output_size = hidden_size * self.directions
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        self.cells = nn.ModuleList(CELLS[cell](size, hidden_size) for size in sizes for _ in range(self.directions))
        self.tensors_per_layer = CELLS[cell].tensors
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch source input"], valid: Bool[Tensor, "batch source"] | None
    ) -> tuple[Float[Tensor, "batch source output"], State]:
        """States of every token, and the last state of each layer and direction: layer by layer, forward first."""
        final: State = ()
        x = rearrange(x, "batch source input -> source batch input")  # the inputs of a step lie together
        real = None if valid is None else rearrange(valid, "batch source -> source batch 1").unbind()
        cells = [cell for cell in self.cells if isinstance(cell, Cell)]
        for first in range(0, len(cells), self.directions):
            x = self.dropout(x) if first else x
            runs = [
                _run(cell, x, real, backward=backward)
                for cell, backward in zip(cells[first : first + self.directions], (False, True), strict=False)
            ]
            x = torch.cat([states for states, _ in runs], dim=-1)
            final += tuple(tensor for _, last in runs for tensor in last)
        return rearrange(x, "source batch output -> batch source output"), final


def _run(cell: Cell, x: Tensor, real: tuple[Tensor, ...] | None, *, backward: bool) -> tuple[Tensor, State]:
    """x (S, B, I) to states (S, B, H), and the last state."""
    steps, step, inputs = range(len(x)), cell.steps(), cell.inputs(x).unbind()
    state: State = (x.new_zeros(x.shape[1], cell.hidden_size),) * cell.tensors
    outputs: list[Tensor] = [state[0]] * len(x)
    for t in reversed(steps) if backward else steps:
        new = step(inputs[t], state)
        if real is not None:
            # Padding leaves the state as it was.
            new = tuple(torch.where(real[t], after, before) for after, before in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
    return torch.stack(outputs) if outputs else x.new_zeros(0, *state[0].shape), state
