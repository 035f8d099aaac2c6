"""Transformer blocks: attention and a feed-forward network, each with a residual connection and a norm."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.activations import Activation, make_activation
from minitransformer.attention import KVCache, MultiHeadAttention
from minitransformer.dropout import Dropout
from minitransformer.kernels import skinny_linear
from minitransformer.norms import Norm, make_norm
from minitransformer.positions import AttentionPositions


class FeedForward(nn.Module):
    """Two linear layers with an activation between, at each position alone (Vaswani et al. 2017, eq. 2).

    The name "swiglu" alone is gated: (SiLU(x W) * x V) W2 (Shazeer 2020), a third layer, so that at equal `d_ff` it
    holds half as many weights again; any other name or callable is applied to x W. Dropout falls between the layers;
    the residual's is the block's.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: Activation = "relu", dropout: float = 0.0, bias: bool = True
    ):
        super().__init__()
        self.gated = activation == "swiglu"
        self.activation = make_activation(activation)
        self.expand = nn.Linear(d_model, 2 * d_ff if self.gated else d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        hidden = skinny_linear.through(self.expand, states)
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = self.activation(gate) * hidden
        else:
            hidden = self.activation(hidden)
        return skinny_linear.through(self.contract, self.dropout(hidden))


class Residual(nn.Module):
    """x + dropout(sublayer(x)), with a norm over the sublayer's input ("pre-norm") or over the sum ("post-norm").

    Post-norm is the 2017 paper's; pre-norm trains without a warm-up (Xiong et al. 2020).
    """

    def __init__(self, norm: nn.Module, *, pre_norm: bool, dropout: float):
        super().__init__()
        self.norm, self.pre_norm = norm, pre_norm
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, sublayer: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        update = self.dropout(sublayer(self.norm(states) if self.pre_norm else states, *args, **kwargs))
        return states + update if self.pre_norm else self.norm(states + update)


class Block(nn.Module):
    """The sublayers of a block, each with its residual: what an encoder's and a decoder's are both made of."""

    attentions: ClassVar[tuple[str, ...]] = ("attention",)
    causal = False
    attention: MultiHeadAttention
    attention_residual: Residual
    feed_forward_residual: Residual

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        causal: bool | None = None,
        pre_norm: bool = False,
        norm: Norm = "layernorm",
        norm_eps: float = 1e-5,
        activation: Activation = "relu",
        dropout: float = 0.0,
        attention_dropout: float | None = None,
        activation_dropout: float | None = None,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        positions: AttentionPositions | None = None,
        bias: bool = True,
        attention_bias: bool | None = None,
        qk_norm: bool = False,
    ):
        """
        - `d_model`: width of the states. `num_heads`: attention heads. `d_ff`: width inside the feed-forward network.
        - `causal`: self-attention sees no later token. None: False for an encoder's block, True for a decoder's.
        - `pre_norm`: norms before the sublayers, not after the residual sums.
        - `norm`: "layernorm", "rmsnorm", a module class, or a callable of `d_model`; `norm_eps` is for the names.
        - `activation`: "relu", "gelu" (with erf), "gelu_tanh", "relu_squared", "swiglu" (gated), a module class, or a
          callable.
        - `dropout`: on each sublayer's output. `attention_dropout`, on attention weights, and `activation_dropout`,
          inside the feed-forward network: None for the same rate.
        - `num_kv_heads`: heads of keys and values, which groups of query heads share. None: `num_heads`.
        - `head_dim`: width of a head. None: d_model / num_heads.
        - `positions`: `Rotary`, `ALiBi` or `RelativeBias`, in self-attention alone.
        - `bias`: biases in linear layers and named norms. `attention_bias`: in attentions instead. None: `bias`.
        - `qk_norm`: a norm over queries and keys, a head at a time, in every attention.
        """
        super().__init__()
        self.causal = type(self).causal if causal is None else causal
        for name in self.attentions:
            attention = MultiHeadAttention(
                d_model,
                num_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                bias=bias if attention_bias is None else attention_bias,
                positions=positions if name == "attention" else None,
                dropout=dropout if attention_dropout is None else attention_dropout,
                qk_norm=qk_norm,
                norm_eps=norm_eps,
            )
            self.add_module(name, attention)
        inner = dropout if activation_dropout is None else activation_dropout
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=inner, bias=bias)
        for name in (*self.attentions, "feed_forward"):
            normed = make_norm(norm, d_model, eps=norm_eps, bias=bias)
            self.add_module(f"{name}_residual", Residual(normed, pre_norm=pre_norm, dropout=dropout))


class EncoderBlock(Block):
    """Self-attention, then feed-forward. With `causal=True` it is the block of a GPT."""

    def forward(
        self,
        states: Float[Tensor, "batch time d_model"],
        *,
        mask: Bool[Tensor, "#batch #heads #time key"] | None = None,
        cache: KVCache | None = None,
        position_ids: Int[Tensor, "#batch time"] | None = None,
        rows: Int[Tensor, " rows"] | None = None,
    ) -> Float[Tensor, "batch time d_model"] | Float[Tensor, "rows d_model"]:
        """With `rows`, indices into the flattened (batch, time), the feed-forward network runs on these states only,
        and only they are returned: the last block saves the work for states that nobody reads."""
        states = self.attention_residual(
            states, self.attention, mask=mask, causal=self.causal, cache=cache, position_ids=position_ids
        )
        if rows is not None:
            states = rearrange(states, "batch time d_model -> (batch time) d_model").index_select(0, rows)
        return self.feed_forward_residual(states, self.feed_forward)


class DecoderBlock(Block):
    """Causal self-attention, attention to an encoder's states, then feed-forward."""

    attentions = ("attention", "cross_attention")
    causal = True
    cross_attention: MultiHeadAttention
    cross_attention_residual: Residual

    def forward(
        self,
        states: Float[Tensor, "batch time d_model"],
        memory: Float[Tensor, "sources memory d_model"],
        *,
        mask: Bool[Tensor, "#batch #heads #time key"] | None = None,
        memory_mask: Bool[Tensor, "#sources #heads #time memory"] | None = None,
        cache: KVCache | None = None,
        memory_cache: KVCache | None = None,
        position_ids: Int[Tensor, "#batch time"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """`memory` has a row for each of `states`, or for each group of neighbouring rows (the beams of a source)."""
        shape = states.shape
        states = self.attention_residual(
            states, self.attention, mask=mask, causal=self.causal, cache=cache, position_ids=position_ids
        )
        if len(memory) != len(states):
            # Cross-attention knows no order: to it the beams of a source are more queries of one row.
            states = rearrange(
                states, "(sources beams) time d_model -> sources (beams time) d_model", sources=len(memory)
            )
        states = self.cross_attention_residual(
            states, self.cross_attention, memory, mask=memory_mask, cache=memory_cache
        )
        return self.feed_forward_residual(states, self.feed_forward).view(shape)


class Stack(nn.Module):
    """Blocks one after another, and after pre-norm blocks one last norm (post-norm blocks end in one already).

    The same block may stand in several places: its parameters are then shared (ALBERT).
    """

    def __init__(self, layers: Sequence[nn.Module], final_norm: nn.Module | None = None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.final_norm = final_norm

    def forward(
        self, states: Tensor, *args: Any, per_layer: Sequence[dict[str, Any]] | None = None, **options: Any
    ) -> Tensor:
        """`per_layer` holds each block's own arguments, such as its cache; all blocks get the others."""
        for layer, own in zip(self.layers, per_layer or [{}] * len(self.layers), strict=True):
            states = layer(states, *args, **own, **options)
        return states if self.final_norm is None else self.final_norm(states)
