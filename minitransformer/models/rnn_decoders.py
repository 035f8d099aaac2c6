"""One recurrent decoder for each way of using attention.

A decoder reads T tokens in three parts: `prepare` computes for all of them at once, `step` goes through them one by
one, and `finish` computes for all of them again. A step of decoding is the same with T = 1.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.kernels.skinny_linear import through
from minitransformer.models.base import Memory
from minitransformer.models.rnn_cells import RecurrentStack, Rest, State, Step
from minitransformer.recurrent import RecurrentAttention

Embedded = Float[Tensor, "batch target input"]
Features = Float[Tensor, "batch target features"]


@dataclass
class RNNState:
    """What decoding carries: the source, its keys for attention, the recurrent state, and the fed-back vector.

    `source` numbers the sources: rows with the same number have the same source. `position` counts the tokens read.
    """

    memory: Memory
    keys: Tensor
    source: Int[Tensor, " batch"]
    recurrent: State
    fed: Tensor | None = None
    position: int = 0

    def select(self, rows: Int[Tensor, " rows"]) -> "RNNState":
        """The state of these rows. The source, by far the largest part, is shared where each row keeps its own."""
        source = self.source[rows]
        stays = torch.equal(source, self.source)
        return replace(
            self,
            memory=self.memory if stays else self.memory.select(rows),
            keys=self.keys if stays else self.keys[rows],
            source=source,
            recurrent=tuple(x[rows] for x in self.recurrent),
            fed=None if self.fed is None else self.fed[rows],
        )


class Decoder(nn.Module):
    """Embedded tokens (B, T, E) in; out come features (B, T, `output_size`), from which the output layer predicts.

    This one has no attention: it knows of the source only the state that it starts from (Cho et al. 2014).
    """

    def __init__(self, rnn: RecurrentStack, hidden_size: int, attention: RecurrentAttention | None = None):
        super().__init__()
        self.rnn, self.attention = rnn, attention
        self.output_size = hidden_size

    def start(self, memory: Memory, recurrent: State) -> RNNState:
        keys = memory.states if self.attention is None else self.attention.keys(memory.states)
        rows = torch.arange(len(keys), device=keys.device)
        return RNNState(Memory(memory.states, memory.valid), keys, rows, recurrent)

    def forward(self, x: Embedded, state: RNNState) -> tuple[Features, RNNState]:
        if not x.shape[1]:
            return x.new_zeros(len(x), 0, self.output_size), state
        rnn, rest, collected, before = self.rnn.steps(), self.rnn.first.rest(x.shape[-1]), [], state
        for inputs in self.prepare(x).transpose(0, 1).unbind():
            outputs, state = self.step(inputs, state, rnn, rest)
            state = replace(state, position=state.position + 1)
            collected.append(outputs)
        each = [torch.stack(outputs, dim=1) for outputs in zip(*collected, strict=True)]
        return self.finish(x, before, *each), state

    def prepare(self, x: Embedded) -> Float[Tensor, "batch target gates"]:
        return self.rnn.first.inputs(x)

    def step(self, inputs: Tensor, state: RNNState, rnn: Step, rest: Rest) -> tuple[tuple[Tensor, ...], RNNState]:
        """What `finish` needs of one token, and the next state. `inputs` is the token's part of what `prepare` gives,
        `rnn` the cells for this loop, and `rest` what their inputs beside the token add to the gates."""
        recurrent = rnn(inputs, state.recurrent)
        return (self.rnn.top(recurrent),), replace(state, recurrent=recurrent)

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Features:
        [features] = collected
        return features

    def context(self, query: Tensor, state: RNNState) -> Tensor:
        """The contexts (B, T, M) of queries (B, T, Q), or (B, M) of one query (B, Q)."""
        assert self.attention is not None
        if query.dim() == 2:
            return self.context(rearrange(query, "batch query -> batch 1 query"), state)[:, 0]
        return self.attention(query, state.keys, state.memory.states, state.memory.valid, position=state.position)


class TalkDecoder(Decoder):
    """Attends from token and state, mixes token and context, then steps: x = ReLU(W [E y; c]), h = GRU(x, h)."""

    def __init__(
        self, rnn: RecurrentStack, hidden_size: int, attention: RecurrentAttention, input_size: int, memory_size: int
    ):
        super().__init__(rnn, hidden_size, attention)
        self.combine = nn.Linear(input_size + memory_size, hidden_size)

    def prepare(self, x: Embedded) -> Embedded:
        return x

    def step(self, inputs: Tensor, state: RNNState, rnn: Step, rest: Rest) -> tuple[tuple[Tensor, ...], RNNState]:
        context = self.context(torch.cat([inputs, self.rnn.top(state.recurrent)], dim=-1), state)
        mixed = through(self.combine, torch.cat([inputs, context], dim=-1)).relu()
        return super().step(self.rnn.first.inputs(mixed), state, rnn, rest)


class BahdanauDecoder(Decoder):
    """Attends from the state before the step, and reads out through a maxout layer (Bahdanau et al. 2015, A.2.2).

    s_i = RNN([E y; c], s_{i-1}). U s_{i-1} + V E y + C c has twice `output_size` numbers; the features are the larger
    of each pair of neighbours. Dropout falls on the features.
    """

    def __init__(
        self,
        rnn: RecurrentStack,
        hidden_size: int,
        attention: RecurrentAttention,
        input_size: int,
        memory_size: int,
        *,
        output_size: int,
        dropout: float,
    ):
        super().__init__(rnn, hidden_size, attention)
        self.output_size = output_size
        self.readout = nn.Linear(hidden_size + input_size + memory_size, 2 * output_size)
        self.dropout = Dropout(dropout)

    def step(self, inputs: Tensor, state: RNNState, rnn: Step, rest: Rest) -> tuple[tuple[Tensor, ...], RNNState]:
        before = self.rnn.top(state.recurrent)
        context = self.context(before, state)
        recurrent = rnn(inputs + rest(context), state.recurrent)
        return (before, context), replace(state, recurrent=recurrent)

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Features:
        states, contexts = collected
        pairs = through(self.readout, torch.cat([states, x, contexts], dim=-1))
        return self.dropout(
            torch.maximum(*rearrange(pairs, "batch target (unit pair) -> pair batch target unit", pair=2))
        )


class LuongDecoder(Decoder):
    """Steps first, then attends from the new state: h̃ = tanh(W [c; h]) (Luong et al. 2015, eq. 5); dropout on h̃.

    No step needs the attention of an earlier one, so all targets attend at once, after the loop.
    """

    def __init__(
        self, rnn: RecurrentStack, hidden_size: int, attention: RecurrentAttention, memory_size: int, *, dropout: float
    ):
        super().__init__(rnn, hidden_size, attention)
        self.combine = nn.Linear(memory_size + hidden_size, hidden_size, bias=False)
        self.dropout = Dropout(dropout)

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Features:
        [hidden] = collected
        return self.mixed(self.context(hidden, before), hidden)

    def mixed(self, context: Tensor, hidden: Tensor) -> Tensor:
        return self.dropout(torch.tanh(through(self.combine, torch.cat([context, hidden], dim=-1))))


class FeedingLuongDecoder(LuongDecoder):
    """Input feeding (Luong et al. 2015, section 3.3): a token is read with the h̃ before it; the first h̃ is 0."""

    def start(self, memory: Memory, recurrent: State) -> RNNState:
        return replace(super().start(memory, recurrent), fed=torch.zeros_like(self.rnn.top(recurrent)))

    def step(self, inputs: Tensor, state: RNNState, rnn: Step, rest: Rest) -> tuple[tuple[Tensor, ...], RNNState]:
        assert state.fed is not None
        recurrent = rnn(inputs + rest(state.fed), state.recurrent)
        hidden = self.rnn.top(recurrent)
        features = self.mixed(self.context(hidden, state), hidden)
        return (features,), replace(state, recurrent=recurrent, fed=features)

    finish = Decoder.finish
