"""The recurrent encoder-decoder with attention: the talk's, Bahdanau's, Luong's, or none."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from minitransformer.dropout import Dropout
from minitransformer.errors import InputError
from minitransformer.kernels import skinny_linear
from minitransformer.models.base import Ids, Loss, Memory, Valid, embedded, require_rows_of
from minitransformer.models.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderConfig,
    decoder_inputs_and_targets,
    require_batch,
)
from minitransformer.models.rnn_cells import RecurrentStack, State
from minitransformer.models.rnn_decoders import (
    BahdanauDecoder,
    Decoder,
    FeedingLuongDecoder,
    LuongDecoder,
    RNNState,
    TalkDecoder,
)
from minitransformer.models.rnn_encoder import RecurrentEncoder
from minitransformer.positions import token_positions
from minitransformer.recurrent import Additive, Local, Location, Multiplicative, RecurrentAttention

LUONG = ("dot", "general", "concat", "local-m", "local-p")


@dataclass(frozen=True)
class RNNConfig(EncoderDecoderConfig):
    """The sizes and options of an `RNNSeq2Seq`. The talk's model by default; its published sizes are d_model=64,
    hidden_size=64, max_length=30."""

    source_vocab_size: int
    """Tokens of the source."""
    target_vocab_size: int
    """Tokens of the target."""
    d_model: int = 64
    """Width of the embeddings."""
    hidden_size: int = 64
    """Width of each direction of the encoder, and of the decoder."""
    num_layers: int = 1
    """Recurrent layers on each side."""
    cell: Literal["gru", "lstm", "bahdanau-gru"] = "gru"
    """gru and lstm: torch's. bahdanau-gru: Bahdanau's, which resets before the matrix."""
    bidirectional: bool = False
    """The encoder reads from both sides."""
    attention: Literal["location", "additive", "dot", "general", "concat", "local-m", "local-p", "none"] = "location"
    """It also chooses the decoder: the talk's for location, Bahdanau's for additive, Luong's for the others. local-m
    and local-p are general within `window` tokens of a place that is the target's own or predicted."""
    attention_dim: int | None = None
    """Width of additive and concat attention. None: `hidden_size`."""
    window: int = 10
    """Of local attention, in tokens to each side."""
    input_feeding: bool = False
    """The decoder reads its last attention output too (Luong)."""
    tie_output: bool = False
    """The target embedding is the output layer's weight; a maxout layer then has `d_model` units, else half of
    `hidden_size`."""
    masked: bool = True
    """False: sources are padded with zero vectors to `max_length`, and attention may fall on them, as in the talk."""
    max_length: int = 30
    """The most tokens of the source."""
    dropout: float = 0.1
    """On embeddings and states."""
    teacher_forcing: float = 1.0
    """The probability that a training row is fed its true tokens, not the model's own choices."""
    label_smoothing: float = 0.0
    """While training only."""
    pad_id: int = 0
    """The token that fills rows up."""
    bos_id: int = 2
    """The token before a text."""
    eos_id: int = 3
    """The token that ends a text."""
    max_extra_tokens: int = 50
    """The most tokens that a translation has more than its source, unless a call of the `Translator` says otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("d_model", "hidden_size", "num_layers", "attention_dim", "window")
        self.require_fraction("teacher_forcing")
        if self.attention == "dot" and self.bidirectional:
            raise InputError(
                f"attention='dot' compares states of one size, but an encoder with bidirectional=True has "
                f"2 x {self.hidden_size}: use attention='general'"
            )
        if self.input_feeding and self.attention not in LUONG:
            raise InputError(f"input_feeding belongs to Luong's attention, not to attention={self.attention!r}")
        if self.tie_output and self.attention != "additive" and self.d_model != self.hidden_size:
            raise InputError(
                f"tie_output reads embeddings of d_model={self.d_model} out of states of "
                f"hidden_size={self.hidden_size}: with attention={self.attention!r} the two must be equal"
            )


class RNNSeq2Seq(EncoderDecoder):
    """A recurrent network on both sides; the decoder reads the target, and may attend to the encoder's states."""

    config_class = RNNConfig

    def __init__(self, config: RNNConfig):
        super().__init__()
        c = self.config = config
        self.source_embedding = nn.Embedding(c.source_vocab_size, c.d_model)
        self.target_embedding = nn.Embedding(c.target_vocab_size, c.d_model)
        self.encoder = RecurrentEncoder(
            c.cell, c.d_model, c.hidden_size, c.num_layers, bidirectional=c.bidirectional, dropout=c.dropout
        )
        self.decoder = self._make_decoder(self.encoder.output_size)
        self.bridge = self._make_bridge()
        self.output = nn.Linear(self.decoder.output_size, c.target_vocab_size)
        if c.tie_output:
            self.output.weight = self.target_embedding.weight
        self.dropout = Dropout(c.dropout)
        self.init_weights()

    def init_weights(self) -> None:
        """Recurrent matrices orthogonal, a gate at a time; embeddings N(0, 1), or N(0, 1/d_model) where tied to the
        output; other matrices Xavier-uniform; biases 0; the v of additive and of local attention 0."""
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                tied = parameter is self.output.weight
                nn.init.normal_(parameter, std=self.config.d_model**-0.5 if tied else 1.0)
            elif "weight_hh" in name:
                for gate in parameter.split(self.config.hidden_size):
                    nn.init.orthogonal_(gate)
            elif parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def encode(self, ids: Ids, valid: Valid | None = None) -> Memory:
        self.check_source(ids, valid)
        states = embedded(self.source_embedding, "source_ids", ids, self.config.source_vocab_size)
        states, final = self.encoder(self.dropout(states), valid)
        valid = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid
        if not self.config.masked:
            states = self._fill_up(states, valid)
            valid = states.new_ones(states.shape[:2], dtype=torch.bool)
        return Memory(states, valid, final)

    def decode(self, target_ids: Int[Tensor, "batch target"], memory: Memory) -> Float[Tensor, "batch target features"]:
        """Always teacher-forced."""
        return self.decoder(self._embedded(target_ids), self.state_before_bos(memory))[0]

    def state_before_bos(self, memory: Memory, *, max_new_tokens: int = 0) -> RNNState:
        assert memory.final is not None
        return self.decoder.start(memory, self._first_state(memory.final))

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], state: RNNState) -> tuple[Float[Tensor, "batch vocab"], RNNState]:
        """Read one more target token per row: logits of the next, and the state after it."""
        require_rows_of(state.source, ids=ids)
        features, state = self.decoder(self._embedded(ids[:, None]), state)
        return skinny_linear.through(self.output, features[:, 0]), state

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """As any encoder-decoder's. In training with `teacher_forcing` below 1, sequences whose coin says so are fed
        the model's own choices: their loss adds up until it chooses EOS, as the talk's does, while the count is that
        of all targets."""
        if not self.training or self.config.teacher_forcing == 1.0 or batch["target_ids"].shape[1] < 2:
            return super().loss(batch)
        require_batch(batch)
        inputs, targets, is_target = decoder_inputs_and_targets(batch["target_ids"], self.config.pad_id)
        logits, running = self._coin_flip_logits(inputs, self.encode(batch["source_ids"], batch["source_valid"]))
        is_target = is_target & running
        return self.loss_of(logits[is_target], targets[is_target], batch)

    def _embedded(self, target_ids: Tensor) -> Tensor:
        states = embedded(self.target_embedding, "target_ids", target_ids, self.config.target_vocab_size)
        # A tied table has std d_model**-0.5, for the output layer; others have 1.
        return self.dropout(states * self.config.d_model**0.5 if self.config.tie_output else states)

    def _coin_flip_logits(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) where each row is fed either its true tokens or the model's own choices (Williams and Zipser
        1989), and which steps (B, T) come before a row's own choice of EOS."""
        state = self.state_before_bos(memory)
        forced = torch.rand(len(inputs), device=inputs.device) < self.config.teacher_forcing
        running = torch.ones_like(forced)
        ids = inputs[:, 0]
        all_logits: list[Tensor] = []
        all_running: list[Tensor] = []
        for t in range(inputs.shape[1]):
            if t:
                chosen = all_logits[-1].detach().argmax(dim=-1)
                running = running & (forced | (chosen != self.config.eos_id))
                ids = torch.where(forced, inputs[:, t], chosen)
            features, state = self.decoder(self._embedded(ids[:, None]), state)
            all_logits.append(self.output(features[:, 0]))
            all_running.append(running)
        return torch.stack(all_logits, dim=1), torch.stack(all_running, dim=1)

    def _fill_up(self, states: Tensor, valid: Tensor) -> Tensor:
        """The states of real tokens in order, then zero vectors up to `max_length`."""
        place = repeat(token_positions(valid), "batch source -> batch source memory", memory=states.shape[2])
        filled = states.new_zeros(len(states), self.config.max_length, states.shape[2])
        return filled.scatter_add(1, place, states * valid[..., None])

    def _first_state(self, final: State) -> State:
        """The decoder's first state: the encoder's last where it fits (the talk, Luong), else tanh(W ·) of it, layer by
        layer. Bahdanau's reads the backward direction alone, which ends at the first word."""
        if self.bridge is None:
            return final
        kinds = self.decoder.rnn.tensors_per_layer
        per_layer = self.encoder.directions * kinds
        state: list[Tensor] = []
        for layer, project in enumerate(self.bridge):
            last = final[layer * per_layer : (layer + 1) * per_layer]
            if self.config.attention == "additive":
                last = last[-kinds:]
            # One W for h and c of an LSTM.
            state.extend(torch.tanh(project(torch.cat(last[kind::kinds], dim=-1))) for kind in range(kinds))
        return tuple(state)

    def _make_bridge(self) -> nn.ModuleList | None:
        c = self.config
        if c.attention != "additive" and not c.bidirectional:
            return None
        width = c.hidden_size if c.attention == "additive" else self.encoder.output_size
        return nn.ModuleList(nn.Linear(width, c.hidden_size) for _ in range(c.num_layers))

    def _make_decoder(self, memory_size: int) -> Decoder:
        c = self.config
        hidden = c.hidden_size

        def rnn(input_size: int) -> RecurrentStack:
            return RecurrentStack(c.cell, input_size, hidden, c.num_layers, c.dropout)

        if c.attention == "none":
            return Decoder(rnn(c.d_model), hidden)
        if c.attention == "location":
            location = Location(c.d_model + hidden, c.max_length)
            return TalkDecoder(rnn(hidden), hidden, location, c.d_model, memory_size)
        additive = Additive(hidden, memory_size, c.attention_dim or hidden)
        if c.attention == "additive":
            return BahdanauDecoder(
                rnn(c.d_model + memory_size),
                hidden,
                additive,
                c.d_model,
                memory_size,
                output_size=c.d_model if c.tie_output else max(1, hidden // 2),
                dropout=c.dropout,
            )
        luong: RecurrentAttention = (
            additive if c.attention == "concat" else Multiplicative(hidden, memory_size, weighted=c.attention != "dot")
        )
        if c.attention in ("local-m", "local-p"):
            luong = Local(luong, hidden, c.window, predictive=c.attention == "local-p")
        kind, fed = (FeedingLuongDecoder, hidden) if c.input_feeding else (LuongDecoder, 0)
        return kind(rnn(c.d_model + fed), hidden, luong, memory_size, dropout=c.dropout)
