"""One recurrent decoder for each way of using attention.

A decoder reads T tokens in three parts: `prepare` computes for all of them at once, `steps` goes through them one by
one, and `finish` computes for all of them again. A step of decoding is the same with T = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.models.base import Memory
from minitransformer.models.rnn_cells import RecurrentStack, State
from minitransformer.recurrent import RecurrentAttention


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


DecoderStep = Callable[[Tensor, RNNState], tuple[tuple[Tensor, ...], RNNState]]
"""Takes what `prepare` gives for a token, and the state; returns what `finish` needs, and the next state."""


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

    def forward(
        self, x: Float[Tensor, "batch target input"], state: RNNState
    ) -> tuple[Float[Tensor, "batch target features"], RNNState]:
        step, collected, before = self.steps(state), [], state
        for now in self.prepare(x).transpose(0, 1).unbind():
            outputs, state = step(now, state)
            state = replace(state, position=state.position + 1)
            collected.append(outputs)
        each = [torch.stack(outputs, dim=1) for outputs in zip(*collected, strict=True)]
        return self.finish(x, before, *each), state

    def prepare(self, x: Float[Tensor, "batch target input"]) -> Float[Tensor, "batch target gates"]:
        return self.rnn.first.inputs(x)

    def steps(self, state: RNNState) -> DecoderStep:
        rnn = self.rnn.steps()

        def step(inputs: Tensor, state: RNNState) -> tuple[tuple[Tensor, ...], RNNState]:
            recurrent = rnn(inputs, state.recurrent)
            return (self.rnn.top(recurrent),), replace(state, recurrent=recurrent)

        return step

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Float[Tensor, "batch target features"]:
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

    def prepare(self, x: Float[Tensor, "batch target input"]) -> Float[Tensor, "batch target input"]:
        return x

    def steps(self, state: RNNState) -> DecoderStep:
        rnn, read = self.rnn.steps(), self.rnn.first.inputs

        def step(x: Tensor, state: RNNState) -> tuple[tuple[Tensor, ...], RNNState]:
            context = self.context(torch.cat([x, self.rnn.top(state.recurrent)], dim=-1), state)
            mixed = self.combine(torch.cat([x, context], dim=-1)).relu()
            recurrent = rnn(read(mixed), state.recurrent)
            return (self.rnn.top(recurrent),), replace(state, recurrent=recurrent)

        return step


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
        self.output_size, self.memory_size = output_size, memory_size
        self.readout = nn.Linear(hidden_size + input_size + memory_size, 2 * output_size)
        self.dropout = Dropout(dropout)

    def steps(self, state: RNNState) -> DecoderStep:
        rnn, read_context = self.rnn.steps(), self.rnn.first.rest(self.memory_size)

        def step(inputs: Tensor, state: RNNState) -> tuple[tuple[Tensor, ...], RNNState]:
            before = self.rnn.top(state.recurrent)
            context = self.context(before, state)
            recurrent = rnn(inputs + read_context(context), state.recurrent)
            return (before, context), replace(state, recurrent=recurrent)

        return step

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Float[Tensor, "batch target features"]:
        states, contexts = collected
        pairs = self.readout(torch.cat([states, x, contexts], dim=-1))
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

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Float[Tensor, "batch target features"]:
        [hidden] = collected
        return self.mixed(self.context(hidden, before), hidden)

    def mixed(self, context: Tensor, hidden: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.combine(torch.cat([context, hidden], dim=-1))))


class FeedingLuongDecoder(LuongDecoder):
    """Input feeding (Luong et al. 2015, section 3.3): a token is read with the h̃ before it; the first h̃ is 0."""

    def start(self, memory: Memory, recurrent: State) -> RNNState:
        return replace(super().start(memory, recurrent), fed=torch.zeros_like(self.rnn.top(recurrent)))

    def steps(self, state: RNNState) -> DecoderStep:
        rnn, read_fed = self.rnn.steps(), self.rnn.first.rest(self.output_size)

        def step(inputs: Tensor, state: RNNState) -> tuple[tuple[Tensor, ...], RNNState]:
            assert state.fed is not None
            recurrent = rnn(inputs + read_fed(state.fed), state.recurrent)
            hidden = self.rnn.top(recurrent)
            features = self.mixed(self.context(hidden, state), hidden)
            return (features,), replace(state, recurrent=recurrent, fed=features)

        return step

    def finish(self, x: Tensor, before: RNNState, *collected: Tensor) -> Float[Tensor, "batch target features"]:
        [features] = collected
        return features
