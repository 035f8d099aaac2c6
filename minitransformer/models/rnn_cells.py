"""GRU and LSTM, cell by cell: padding may stand anywhere in a row, and the graph can be compiled and exported, which
torch's whole-sequence `nn.GRU` and `nn.LSTM` do not allow.

A loop over time is fast when little is left in it. What the inputs add to the gates is one matrix product for all
steps, outside of the loop (`Cell.inputs`); what stays inside goes through `Repeated`, which leaves the gradient of
its matrix to one product after the loop. A recurrent state is a tuple of tensors (B, H): for each layer h, or h and
c for an LSTM.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minitransformer.dropout import Dropout

State = tuple[Tensor, ...]
Step = Callable[[Float[Tensor, "batch gates"], State], State]
"""Takes what the inputs add to the gates, and the state; gives the next state."""


class Repeated:
    """y = x Wᵀ + b for the many x of a loop, made anew for each loop.

    Autograd alone would multiply out a gradient of W at every step and add it to the last: as much time in adding up
    as in multiplying. Here the backward pass only keeps each step's x and gradient of y, and one product of all of
    them follows. For one backward pass at a time over the loop as a whole.
    """

    def __init__(self, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None = None):
        self.weight, self.bias = weight, bias
        self.steps: dict[int, tuple[Tensor, Tensor]] | None = None
        self.count = 0
        # A traced graph is the compiler's to make fast, and it has no place for notes on the side.
        if torch.is_grad_enabled() and weight.requires_grad and not torch.compiler.is_compiling():
            if torch.is_autocast_enabled(weight.device.type):
                self.weight = weight.to(torch.get_autocast_dtype(weight.device.type))
                self.bias = None if bias is None else bias.to(self.weight.dtype)
            self.steps = {}
            self.weight, self.bias = _AddUp.apply(self.steps, self.weight, self.bias)

    def __call__(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        if self.steps is None:
            return F.linear(x, self.weight, self.bias)
        self.count += 1
        return _Multiply.apply(x.to(self.weight.dtype), self.weight, self.bias, self.steps, self.count)


class _Multiply(torch.autograd.Function):
    """A step of the loop: sends x its gradient, and leaves that of W and b to `_AddUp`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, steps: dict[int, tuple[Tensor, Tensor]], index: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps, ctx.index = steps, index
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        ctx.steps[ctx.index] = x, gradient
        return gradient @ weight if ctx.needs_input_grad[0] else None, None, None, None, None


class _AddUp(torch.autograd.Function):
    """Hands W and b on as they are; going back, it is reached when all steps are through."""

    @staticmethod
    def forward(
        ctx: Any, steps: dict[int, tuple[Tensor, Tensor]], weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.steps = steps
        return weight.view_as(weight), None if bias is None else bias.view_as(bias)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if not ctx.steps:
            return None, None, None
        inputs, gradients = (torch.cat(each) for each in zip(*ctx.steps.values(), strict=True))
        ctx.steps.clear()
        bias = gradients.sum(dim=0) if ctx.needs_input_grad[2] else None
        return None, gradients.T @ inputs, bias


class Cell(nn.Module):
    """What every cell has: `weight_ih` on the input and `weight_hh` on h, gate upon gate, with a bias each."""

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
        return F.linear(x, self.weight_ih[:, : x.shape[-1]], self.bias_ih)

    def rest(self, width: int) -> Repeated:
        """For a loop: what the last `width` numbers of the input add to the gates."""
        return Repeated(self.weight_ih[:, -width:])

    def steps(self) -> Step:
        """The cell for one loop over time."""
        raise NotImplementedError


class GRUCell(Cell):
    """torch's GRU: n = tanh(W x + b + r ∘ (U h + b')), h' = (1 - z) n + z h (Cho et al. 2014)."""

    gates = 3

    def steps(self) -> Step:
        recurrent, both = Repeated(self.weight_hh, self.bias_hh), 2 * self.hidden_size

        def step(inputs: Tensor, state: State) -> State:
            (h,), added = state, recurrent(state[0])
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
        to_gates = Repeated(self.weight_hh[:both], self.bias_hh[:both])
        to_new = Repeated(self.weight_hh[both:], self.bias_hh[both:])

        def step(inputs: Tensor, state: State) -> State:
            (h,) = state
            reset, update = torch.sigmoid(inputs[:, :both] + to_gates(h)).chunk(2, dim=1)
            new = torch.tanh(inputs[:, both:] + to_new(reset * h))
            return (h + update * (new - h),)

        return step


class LSTMCell(Cell):
    """torch's LSTM: c' = f c + i tanh(g), h' = o tanh(c') (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    gates, tensors = 4, 2

    def steps(self) -> Step:
        recurrent, size = Repeated(self.weight_hh, self.bias_hh), self.hidden_size

        def step(inputs: Tensor, state: State) -> State:
            h, c = state
            added = inputs + recurrent(h)
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
        layers = [cell.steps() for cell in self.cells if isinstance(cell, Cell)]
        between = [Repeated(cell.weight_ih, cell.bias_ih) for cell in self.cells[1:] if isinstance(cell, Cell)]

        def step(inputs: Tensor, state: State) -> State:
            new = layers[0](inputs, state[:kinds])
            for layer, read in enumerate(between, 1):
                inputs = read(self.dropout(new[-kinds]))
                new += layers[layer](inputs, state[layer * kinds : (layer + 1) * kinds])
            return new

        return step

    def top(self, state: State) -> Float[Tensor, "batch hidden"]:
        """The last layer's h."""
        return state[-self.tensors_per_layer]
