"""The recurrent encoder, and one decoder for each way of using attention.

Everything runs step by step on `nn.GRUCell` or `nn.LSTMCell`: padding may then stand anywhere in a row, and the
graph can be compiled and exported, which torch's whole-sequence `nn.GRU` and `nn.LSTM` do not allow.
A recurrent state is a tuple of tensors (B, H): for each layer h, or h and c for an LSTM.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.models.base import Memory
from minitransformer.recurrent import Additive, RecurrentAttention

State = tuple[Tensor, ...]
CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}


class RecurrentStack(nn.Module):
    """Layers of cells that read one token at a time; dropout between the layers."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, num_layers: int, dropout: float):
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.cells = nn.ModuleList(CELLS[cell](size, hidden_size) for size in sizes)
        self.tensors_per_layer = 2 if cell == "lstm" else 1
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch input"], state: State) -> State:
        new: list[Tensor] = []
        for index, cell in enumerate(self.cells):
            old = state[index * self.tensors_per_layer : (index + 1) * self.tensors_per_layer]
            new.extend(cell(x, old) if len(old) == 2 else [cell(x, *old)])
            x = self.dropout(new[-self.tensors_per_layer])
        return tuple(new)

    def top(self, state: State) -> Float[Tensor, "batch hidden"]:
        """The last layer's h."""
        return state[-self.tensors_per_layer]


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
        self.tensors_per_layer = 2 if cell == "lstm" else 1
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch source input"], valid: Bool[Tensor, "batch source"] | None
    ) -> tuple[Float[Tensor, "batch source output"], State]:
        """States of every token, and the last state of each layer and direction: layer by layer, forward first."""
        final: list[Tensor] = []
        for first in range(0, len(self.cells), self.directions):
            runs = [self._run(self.cells[first + d], x, valid, backward=bool(d)) for d in range(self.directions)]
            x = torch.cat([states for states, _ in runs], dim=-1)
            final.extend(tensor for _, last in runs for tensor in last)
            if first + self.directions < len(self.cells):
                x = self.dropout(x)
        return x, tuple(final)

    def _run(self, cell: nn.Module, x: Tensor, valid: Tensor | None, *, backward: bool) -> tuple[Tensor, State]:
        steps = range(x.shape[1])
        state = (x.new_zeros(len(x), self.hidden_size),) * self.tensors_per_layer
        outputs: list[Tensor] = [state[0]] * x.shape[1]
        for t in reversed(steps) if backward else steps:
            new = cell(x[:, t], state) if len(state) == 2 else (cell(x[:, t], state[0]),)
            if valid is not None:
                # Padding leaves the state as it was.
                real = valid[:, t, None]
                new = tuple(torch.where(real, after, before) for after, before in zip(new, state, strict=True))
            state = new
            outputs[t] = state[0]
        return torch.stack(outputs, dim=1), state


@dataclass
class RNNState:
    """What decoding carries: the source, what attention made of it, the recurrent state, and the fed-back vector."""

    memory: Memory
    keys: Tensor
    recurrent: State
    fed: Tensor | None = None

    def select(self, rows: Int[Tensor, " rows"]) -> "RNNState":
        return RNNState(
            self.memory.select(rows),
            self.keys[rows],
            tuple(x[rows] for x in self.recurrent),
            None if self.fed is None else self.fed[rows],
        )


class Decoder(nn.Module):
    """Reads one embedded token (B, E), gives the features (B, `output_size`) that the next token is told from.

    This one has no attention: all it knows of the source is the state it starts from (Cho et al. 2014).
    """

    def __init__(self, rnn: RecurrentStack, hidden_size: int, attention: RecurrentAttention | None = None):
        super().__init__()
        self.rnn, self.attention = rnn, attention
        self.output_size = hidden_size

    def start(self, memory: Memory, recurrent: State) -> RNNState:
        keys = memory.states if self.attention is None else self.attention.keys(memory.states)
        return RNNState(memory, keys, recurrent)

    def forward(self, x: Float[Tensor, "batch input"], state: RNNState) -> tuple[Tensor, RNNState]:
        recurrent = self.rnn(x, state.recurrent)
        return self.rnn.top(recurrent), replace(state, recurrent=recurrent)

    def context(self, query: Float[Tensor, "batch query"], state: RNNState) -> Float[Tensor, "batch memory"]:
        assert self.attention is not None
        return self.attention(query[:, None], state.keys, state.memory.states, state.memory.valid)[:, 0]


class TalkDecoder(Decoder):
    """Attends from token and state, mixes token and context, then steps: x = ReLU(W [E y; c]), h = GRU(x, h)."""

    def __init__(
        self, rnn: RecurrentStack, hidden_size: int, attention: RecurrentAttention, input_size: int, memory_size: int
    ):
        super().__init__(rnn, hidden_size, attention)
        self.combine = nn.Linear(input_size + memory_size, hidden_size)

    def forward(self, x: Float[Tensor, "batch input"], state: RNNState) -> tuple[Tensor, RNNState]:
        context = self.context(torch.cat([x, self.rnn.top(state.recurrent)], dim=-1), state)
        return super().forward(self.combine(torch.cat([x, context], dim=-1)).relu(), state)


class BahdanauDecoder(Decoder):
    """Attends from the state before the step, and reads out through a maxout layer (Bahdanau et al. 2015, A.2.2).

    s_i = RNN([E y; c], s_{i-1}), features max of adjacent pairs of U s_{i-1} + V E y + C c. torch's GRU applies
    the reset gate after the recurrent matrix, the paper's before it.
    """

    def __init__(self, rnn: RecurrentStack, hidden_size: int, attention: Additive, input_size: int, memory_size: int):
        super().__init__(rnn, hidden_size, attention)
        self.output_size = max(1, hidden_size // 2)
        self.readout = nn.Linear(hidden_size + input_size + memory_size, 2 * self.output_size)

    def forward(self, x: Float[Tensor, "batch input"], state: RNNState) -> tuple[Tensor, RNNState]:
        before = self.rnn.top(state.recurrent)
        context = self.context(before, state)
        _, state = super().forward(torch.cat([x, context], dim=-1), state)
        features = self.readout(torch.cat([before, x, context], dim=-1)).unflatten(-1, (-1, 2)).amax(dim=-1)
        return features, state


class LuongDecoder(Decoder):
    """Steps first, then attends from the new state: h̃ = tanh(W [c; h]) (Luong et al. 2015, eq. 5).

    With `input_feeding` the token is read together with the h̃ before it (section 3.3), which starts at 0.
    """

    def __init__(
        self,
        rnn: RecurrentStack,
        hidden_size: int,
        attention: RecurrentAttention,
        memory_size: int,
        *,
        input_feeding: bool,
    ):
        super().__init__(rnn, hidden_size, attention)
        self.combine = nn.Linear(memory_size + hidden_size, hidden_size, bias=False)
        self.input_feeding = input_feeding

    def start(self, memory: Memory, recurrent: State) -> RNNState:
        state = super().start(memory, recurrent)
        return replace(state, fed=torch.zeros_like(self.rnn.top(recurrent))) if self.input_feeding else state

    def forward(self, x: Float[Tensor, "batch input"], state: RNNState) -> tuple[Tensor, RNNState]:
        if state.fed is not None:
            x = torch.cat([x, state.fed], dim=-1)
        hidden, state = super().forward(x, state)
        features = torch.tanh(self.combine(torch.cat([self.context(hidden, state), hidden], dim=-1)))
        return features, replace(state, fed=features) if self.input_feeding else state
