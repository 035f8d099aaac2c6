"""The recurrent encoder: states of every source token, and the last state of each layer and direction."""

import torch
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
        final: list[Tensor] = []
        x = x.transpose(0, 1)  # time first: what a step reads lies together
        real = None if valid is None else valid.T[..., None].unbind()
        for index, cell in enumerate(self.cells):
            assert isinstance(cell, Cell)
            direction = index % self.directions
            if direction == 0:
                x = self.dropout(x) if index else x
                runs = []
            states, last = _run(cell, x, real, backward=direction == 1)
            runs.append(states)
            final.extend(last)
            if direction == self.directions - 1:
                x = torch.cat(runs, dim=-1)
        return x.transpose(0, 1), tuple(final)


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
    return torch.stack(outputs), state
