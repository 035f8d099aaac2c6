"""The encoder-decoder Transformer ("Attention is all you need", Vaswani et al. 2017)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minitransformer.activations import ActivationName
from minitransformer.attention import KVCache
from minitransformer.blocks import DecoderBlock, EncoderBlock, Stack
from minitransformer.cache import reordered
from minitransformer.dropout import Dropout
from minitransformer.errors import InputError
from minitransformer.kernels import skinny_linear
from minitransformer.masks import padding_mask
from minitransformer.models.base import Ids, Memory, Valid, embedded, require_rows_of
from minitransformer.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from minitransformer.models.transformer_parts import (
    attention_positions,
    block_arguments,
    check_block_fields,
    final_norm,
    padding_and_positions,
)
from minitransformer.norms import NormName
from minitransformer.positions import LearnedPositions, SinusoidalPositions


@dataclass(frozen=True)
class TransformerConfig(EncoderDecoderConfig):
    """The sizes and options of a `Transformer`. The base model of the paper by default."""

    source_vocab_size: int
    """Tokens of the source."""
    target_vocab_size: int
    """Tokens of the target."""
    d_model: int = 512
    """Width of the states."""
    num_heads: int = 8
    """Attention heads."""
    num_kv_heads: int | None = None
    """Heads of keys and values, which groups of query heads share. None: `num_heads`."""
    d_ff: int = 2048
    """Width inside the feed-forward network."""
    num_encoder_layers: int = 6
    """Blocks of the encoder."""
    num_decoder_layers: int = 6
    """Blocks of the decoder."""
    max_length: int = 512
    """The most tokens of the source; of the target too where positions are learned."""
    positions: Literal["sinusoidal", "learned", "rotary", "alibi", "relative", "none"] = "sinusoidal"
    """sinusoidal, learned: added to token vectors. The others act inside attention."""
    pre_norm: bool = False
    """Norms before the sublayers, not after the residual sums."""
    norm: NormName = "layernorm"
    """The norm of all layers."""
    norm_eps: float = 1e-5
    """Added to the variance in norms."""
    activation: ActivationName = "relu"
    """Inside the feed-forward network."""
    bias: bool = True
    """Biases in linear layers and in norms."""
    share_embeddings: bool = False
    """One table for source and target."""
    tie_output: bool = True
    """The target embedding is the output layer's weight."""
    scale_embedding: bool = True
    """Embeddings times √d_model."""
    dropout: float = 0.1
    """On residuals and embeddings."""
    attention_dropout: float | None = None
    """On attention weights. None: `dropout`."""
    word_dropout: float = 0.0
    """On whole tokens, whose vectors become 0 on both sides (Gal and Ghahramani 2016; Sennrich and Zhang 2019)."""
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
        check_block_fields(self)
        self.require_fraction("word_dropout")
        self.require_positive("num_encoder_layers", "num_decoder_layers")
        if self.share_embeddings and self.source_vocab_size != self.target_vocab_size:
            raise InputError(
                f"share_embeddings needs one vocabulary, but source_vocab_size={self.source_vocab_size} and "
                f"target_vocab_size={self.target_vocab_size}"
            )


@dataclass
class TransformerState:
    """What decoding carries: the source, and two caches per layer. Rows share their positions: all start at BOS.

    Every `rows_per_source` neighbours have one source, as the beams of a search do: `memory` and its caches hold one
    row for all of them.
    """

    memory: Memory
    caches: list[KVCache]
    memory_caches: list[KVCache]
    rows_per_source: int = 1

    def select(self, rows: Int[Tensor, " rows"]) -> "TransformerState":
        """The state of these rows, repeated or left out at will. It shares with this state what no step changes."""
        return self._with([cache.select(rows) for cache in self.caches], rows)

    def reorder(self, rows: Int[Tensor, " rows"]) -> "TransformerState":
        """`select` for a state that is not used again: unless there are more rows than before, rows that keep their
        places are not copied."""
        if len(rows) > len(self.caches[0].keys):
            return self.select(rows)
        return self._with(reordered(self.caches, rows), rows)

    def _with(self, caches: list[KVCache], rows: Tensor) -> "TransformerState":
        sources, rows_per_source = _runs(rows // self.rows_per_source)
        memory, memory_caches = self.memory, self.memory_caches
        if not torch.equal(sources, torch.arange(len(memory.valid), device=rows.device)):
            memory, memory_caches = memory.select(sources), [cache.select(sources) for cache in memory_caches]
        return TransformerState(memory, caches, memory_caches, rows_per_source)


def _runs(sources: Int[Tensor, " rows"]) -> tuple[Int[Tensor, " sources"], int]:
    """The source of each run of equal neighbours, and the length of all runs: 2 2 0 0 gives 2 0 and 2. Where runs
    differ in length, each row is a run."""
    distinct, counts = sources.unique_consecutive(return_counts=True)
    lengths = set(counts.tolist())
    return (distinct, lengths.pop()) if len(lengths) == 1 else (sources, 1)


class Transformer(EncoderDecoder):
    """Stacks of attention on both sides; the decoder attends to the encoder's states in every block."""

    config_class = TransformerConfig

    def __init__(self, config: TransformerConfig):
        super().__init__()
        c = self.config = config
        self.source_embedding = nn.Embedding(c.source_vocab_size, c.d_model)
        self.target_embedding = (
            self.source_embedding if c.share_embeddings else nn.Embedding(c.target_vocab_size, c.d_model)
        )
        self.source_positions, self.target_positions = self._input_positions(), self._input_positions()
        self.embedding_scale = math.sqrt(c.d_model) if c.scale_embedding else 1.0
        self.dropout, self.word_dropout = Dropout(c.dropout), nn.Dropout1d(c.word_dropout)
        parts, both_sides = block_arguments(c), attention_positions(c, bidirectional=True)
        encoder = [EncoderBlock(positions=both_sides, **parts) for _ in range(c.num_encoder_layers)]
        one_side = attention_positions(c, bidirectional=False)
        decoder = [DecoderBlock(positions=one_side, **parts) for _ in range(c.num_decoder_layers)]
        self.encoder, self.decoder = (
            Stack(layers, final_norm(c) if c.pre_norm else None) for layers in (encoder, decoder)
        )
        self.output = nn.Linear(c.d_model, c.target_vocab_size, bias=False)
        if c.tie_output:
            self.output.weight = self.target_embedding.weight
        self.init_weights()

    def init_weights(self, *, zero_residual: bool = False) -> None:
        """Embeddings (and a tied output) N(0, 1/d_model), so that scaled by √d_model they have unit variance;
        matrices Xavier-uniform, with query, key and value each on their own; biases 0, norms 1. With `zero_residual`
        the matrices that write to the residual stream are 0: every block then starts as the identity.
        """
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                nn.init.normal_(parameter, std=self.config.d_model**-0.5)
            elif zero_residual and name.endswith(("project_out.weight", "contract.weight")):
                nn.init.zeros_(parameter)
            elif name.endswith("project_in.weight"):
                head_rows = self.config.d_model // self.config.num_heads
                key_rows = head_rows * (self.config.num_kv_heads or self.config.num_heads)
                for part in parameter.split([self.config.d_model, key_rows, key_rows]):
                    nn.init.xavier_uniform_(part)
            elif parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def encode(self, ids: Ids, valid: Valid | None = None) -> Memory:
        self.check_source(ids, valid)
        mask, valid, position_ids = padding_and_positions(ids, valid)
        states = embedded(self.source_embedding, "source_ids", ids, self.config.source_vocab_size)
        states = self._placed(states, position_ids, self.source_positions)
        return Memory(self.encoder(states, mask=mask, position_ids=position_ids), valid)

    def decode(
        self, target_ids: Int[Tensor, "batch target"], memory: Memory, state: TransformerState | None = None
    ) -> Float[Tensor, "batch target d_model"]:
        """Hidden states of target tokens. With a `state` they follow the tokens that it has seen, and it is updated."""
        start = state.caches[0].num_seen if state is not None else 0
        end = start + target_ids.shape[1]
        if self.config.positions == "learned" and end > self.config.max_length:
            raise InputError(
                f"a target of {end} tokens exceeds the max_length={self.config.max_length} learned positions"
            )
        position_ids = rearrange(torch.arange(start, end, device=target_ids.device), "target -> 1 target")
        states = embedded(self.target_embedding, "target_ids", target_ids, self.config.target_vocab_size)
        states = self._placed(states, position_ids, self.target_positions)
        per_layer = None
        if state is not None:
            pairs = zip(state.caches, state.memory_caches, strict=True)
            per_layer = [{"cache": cache, "memory_cache": memory_cache} for cache, memory_cache in pairs]
        # Targets are padded at their end, which the causal rule hides from every real token.
        return self.decoder(
            states,
            memory.states,
            memory_mask=padding_mask(memory.valid),
            position_ids=position_ids,
            per_layer=per_layer,
        )

    def state_before_bos(self, memory: Memory, *, max_new_tokens: int) -> TransformerState:
        c = self.config
        if c.positions == "learned" and max_new_tokens > c.max_length:
            raise InputError(f"max_new_tokens={max_new_tokens} exceeds the max_length={c.max_length} learned positions")
        batch, source, width = memory.states.shape
        heads, like = c.num_kv_heads or c.num_heads, memory.states
        caches, memory_caches = (
            [
                KVCache(batch, heads, length, width // c.num_heads, dtype=like.dtype, device=like.device)
                for _ in self.decoder.layers
            ]
            for length in (max(1, max_new_tokens), max(1, source))
        )
        return TransformerState(memory, caches, memory_caches)

    @torch.no_grad()
    def step(
        self, ids: Int[Tensor, " batch"], state: TransformerState
    ) -> tuple[Float[Tensor, "batch vocab"], TransformerState]:
        """Read one more target token per row: logits of the next. `state` is updated in place and returned."""
        require_rows_of(state.caches[0].keys, ids=ids)
        return skinny_linear.through(self.output, self.decode(ids[:, None], state.memory, state)[:, 0]), state

    def _placed(self, states: Tensor, position_ids: Tensor, positions: nn.Module | None) -> Tensor:
        """Embedded tokens, scaled and at their positions."""
        states = self.word_dropout(states * self.embedding_scale)
        if positions is not None:
            states = states + positions(position_ids).to(states.dtype)
        return self.dropout(states)

    def _input_positions(self) -> nn.Module | None:
        if self.config.positions == "sinusoidal":
            return SinusoidalPositions(self.config.d_model)
        if self.config.positions == "learned":
            return LearnedPositions(self.config.max_length, self.config.d_model)
        return None
