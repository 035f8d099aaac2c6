"""GRU and LSTM, cell by cell: padding may stand anywhere in a row, and the graph can be compiled and exported, which
torch's whole-sequence `nn.GRU` and `nn.LSTM` do not allow.

A loop over time is fast when little is left in it: what the inputs add to the gates is one matrix product for all
steps, before the loop (`Cell.inputs`). A recurrent state is a tuple of tensors (B, H): for each layer h, or h and c
for an LSTM.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.kernels.skinny_linear import linear

State = tuple[Tensor, ...]
Step = Callable[[Float[Tensor, "batch gates"], State], State]
"""Takes what the inputs add to the gates, and the state; returns the next state."""
Rest = Callable[[Float[Tensor, "batch width"]], Float[Tensor, "batch gates"]]


class Cell(nn.Module):
    """The parameters of every cell: `weight_ih` on the input and `weight_hh` on h, one gate below another, and a bias
    for each."""

    gates: ClassVar[int]
    tensors: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        rows = self.gates * hidden_size
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def inputs(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch gates"]:
        """What `x` adds to the gates. An `x` narrower than the input is its first part; `rest` adds the other."""
        weight, width = self.weight_ih, x.shape[-1]
        return linear(x, weight if width == weight.shape[1] else weight[:, :width], self.bias_ih)

    def rest(self, width: int) -> Rest:
        """For one loop: what the input after its first `width` numbers adds to the gates."""
        # Sliced once: the gradient of a slice is as large as the whole matrix.
        weight = self.weight_ih[:, width:]
        return lambda x: linear(x, weight)

    def steps(self) -> Step:
        """The cell for one loop over time."""
        raise NotImplementedError


class GRUCell(Cell):
    """torch's GRU: n = tanh(W x + b + r ∘ (U h + b')), h' = (1 - z) n + z h (Cho et al. 2014)."""

    gates = 3

    def steps(self) -> Step:
        both, weight, bias = 2 * self.hidden_size, self.weight_hh, self.bias_hh

        def step(inputs: Tensor, state: State) -> State:
            (h,) = state
            added = linear(h, weight, bias)
            reset, update = torch.sigmoid(inputs[:, :both] + added[:, :both]).chunk(2, dim=1)
            new = torch.tanh(inputs[:, both:] + reset * added[:, both:])
            return (new + update * (h - new),)

        return step


class BahdanauGRUCell(Cell):
    """The GRU of Bahdanau et al. 2015, A.1.1: n = tanh(W x + U (r ∘ h) + b), h' = (1 - z) h + z n.

    The reset gate acts before the matrix, which costs a second product after the first.
    """

    gates = 3

    def steps(self) -> Step:
        both = 2 * self.hidden_size
        sizes = [both, self.hidden_size]
        (gate_weight, new_weight), (gate_bias, new_bias) = self.weight_hh.split(sizes), self.bias_hh.split(sizes)

        def step(inputs: Tensor, state: State) -> State:
            (h,) = state
            reset, update = torch.sigmoid(inputs[:, :both] + linear(h, gate_weight, gate_bias)).chunk(2, dim=1)
            new = torch.tanh(inputs[:, both:] + linear(reset * h, new_weight, new_bias))
            return (h + update * (new - h),)

        return step


class LSTMCell(Cell):
    """torch's LSTM: c' = f c + i tanh(g), h' = o tanh(c') (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    gates, tensors = 4, 2

    def steps(self) -> Step:
        size, weight, bias = self.hidden_size, self.weight_hh, self.bias_hh

        def step(inputs: Tensor, state: State) -> State:
            h, c = state
            added = inputs + linear(h, weight, bias)
            enter, forget = torch.sigmoid(added[:, : 2 * size]).chunk(2, dim=1)
            new, leave = torch.tanh(added[:, 2 * size : 3 * size]), torch.sigmoid(added[:, 3 * size :])
            c = forget * c + enter * new
            return leave * torch.tanh(c), c

        return step


CELLS: dict[str, type[Cell]] = {"gru": GRUCell, "lstm": LSTMCell, "bahdanau-gru": BahdanauGRUCell}


class RecurrentStack(nn.Module):
    """Layers of cells for a loop over time; dropout between the layers."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, num_layers: int, dropout: float):
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(CELLS[cell](size, hidden_size) for size in sizes)
        self.tensors_per_layer = CELLS[cell].tensors
        self.dropout = Dropout(dropout)

    @property
    def first(self) -> Cell:
        """The cell that reads the input: its `inputs` and `rest` make what a step takes."""
        cell = self.cells[0]
        assert isinstance(cell, Cell)
        return cell

    def steps(self) -> Step:
        kinds = self.tensors_per_layer
        cells = [cell for cell in self.cells if isinstance(cell, Cell)]
        layers = [cell.steps() for cell in cells]

        def step(inputs: Tensor, state: State) -> State:
            new: State = ()
            for index, (cell, layer) in enumerate(zip(cells, layers, strict=True)):
                if index:
                    inputs = cell.inputs(self.dropout(self.top(new)))
                new += layer(inputs, state[index * kinds : (index + 1) * kinds])
            return new

        return step

    def top(self, state: State) -> Float[Tensor, "batch hidden"]:
        """The last layer's h."""
        return state[-self.tensors_per_layer]
