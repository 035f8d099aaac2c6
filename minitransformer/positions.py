"""Positional encodings: how a model that sees a set of tokens learns their order.

Two places to put them. `SinusoidalPositions` and `LearnedPositions` give vectors that are added to the
embeddings. `Rotary`, `ALiBi` and `RelativeBias` act inside self-attention, through the two hooks of
`AttentionPositions`, and see only the distance between a query and a key.

Positions are integers per row, (batch or 1, time): a padded row counts its real tokens only.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.checks import require_given, require_number
from minitransformer.errors import InputError
from minitransformer.untrusted import shown

Heads = Float[Tensor, "batch heads time head_dim"]


def token_positions(
    valid: Bool[Tensor, "batch time"], document_ids: Int[Tensor, "batch time"] | None = None
) -> Int[Tensor, "batch time"]:
    """The number of real tokens before each real one, of its own document if there are `document_ids`; padding may
    stand anywhere."""
    if document_ids is None:
        return (valid.long().cumsum(dim=1) - 1).clamp(min=0)
    # The documents one after another, where a position is a difference of two counts, and back to their places.
    documents, order = document_ids.sort(dim=1, stable=True)
    real = valid.gather(1, order).long()
    before = real.cumsum(dim=1) - real
    starts = documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0
    before = before - before.where(starts, 0).cummax(dim=1).values
    return before.gather(1, order.argsort(dim=1))


class SinusoidalPositions(nn.Module):
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) = cos of the same (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, d_model: int):
        super().__init__()
        if d_model % 2:
            raise InputError(f"sinusoidal positions pair sines with cosines: d_model={d_model} is odd")
        self.d_model = d_model

    def forward(self, position_ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time {self.d_model}"]:
        angle = _angles(position_ids, self.d_model, 10000.0)
        waves = rearrange([angle.sin(), angle.cos()], "two batch time half -> batch time (half two)")
        return waves.to(torch.get_default_dtype())


class LearnedPositions(nn.Module):
    """A vector for each position up to `max_length`, learned with the rest (Gehring et al. 2017)."""

    def __init__(self, max_length: int, d_model: int):
        super().__init__()
        self.embedding = nn.Embedding(max_length, d_model)

    def forward(self, position_ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time d_model"]:
        return self.embedding(position_ids)


class AttentionPositions(nn.Module):
    """What attention asks of a position scheme; this base class changes nothing."""

    def check_sizes(self, num_heads: int, head_dim: int) -> None:
        """Raises `InputError` if the scheme was made for attention of other sizes."""

    def rotate(self, x: Heads, positions: Int[Tensor, "#batch time"]) -> Heads:
        """Queries or keys that hold their positions."""
        return x

    def bias(
        self, query_positions: Int[Tensor, "#batch query"], key_positions: Int[Tensor, "#batch key"]
    ) -> Float[Tensor, "#batch heads query key"] | None:
        """A number for each query and key, added to the scaled scores before the softmax."""
        return None


class Rotary(AttentionPositions):
    """Rotary embedding: pairs of coordinates turn by an angle that grows with the position (Su et al. 2021).

    q·k then depends on the distance alone. Coordinate i is paired with i + head_dim / 2, as in GPT-NeoX and in
    Llama's checkpoints on Hugging Face. The paper and Meta's own files pair neighbours, 2i with 2i + 1: the same up to
    a permutation of the rows of each head's query and key weights. `scaling` slows the angles, so that a model trained
    on short texts reads longer ones: see `ROPE_SCALINGS`.
    """

    def __init__(self, head_dim: int, *, base: float = 10000.0, scaling: Mapping[str, Any] | None = None):
        super().__init__()
        if head_dim % 2:
            raise InputError(f"rotary positions turn pairs of coordinates: head_dim={head_dim} is odd")
        require_number("base", base, at_least=1e-30)
        require_scaling(scaling)
        self.head_dim, self.base, self.scaling = head_dim, base, scaling

    def check_sizes(self, num_heads: int, head_dim: int) -> None:
        if head_dim != self.head_dim:
            raise InputError(f"Rotary({self.head_dim}) does not fit attention of head_dim={head_dim}")

    def rotate(self, x: Heads, positions: Int[Tensor, "#batch time"]) -> Heads:
        return turned(x, *self.turns(positions, x.dtype))

    def turns(
        self, positions: Int[Tensor, "#batch time"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "#batch 1 time half"], Float[Tensor, "#batch 1 time half"]]:
        """Cosines and sines of the angle of each position and pair of coordinates."""
        angle = _angles(positions, self.head_dim, self.base, self.scaling)
        angle = rearrange(angle, "batch time half -> batch 1 time half")
        return angle.cos().to(dtype), angle.sin().to(dtype)


class ALiBi(AttentionPositions):
    """A penalty that grows with the distance, at a slope per head and nothing learned (Press et al. 2022).

    The slopes are 2^(-8/n), 2^(-16/n), ... for n heads, n a power of two; for other n the slopes of the next
    lower power of two are followed by every second slope of the next higher one, as in the authors' code.
    The distance is taken without its sign, which under a causal mask is the paper's and otherwise its usual extension.
    """

    slopes: Tensor

    def __init__(self, num_heads: int):
        super().__init__()
        require_number("num_heads", num_heads, at_least=1)
        lower = 2 ** math.floor(math.log2(num_heads))
        slopes = _geometric_slopes(lower) + _geometric_slopes(2 * lower)[::2][: num_heads - lower]
        self.register_buffer("slopes", torch.tensor(slopes), persistent=False)

    def check_sizes(self, num_heads: int, head_dim: int) -> None:
        if num_heads != len(self.slopes):
            raise InputError(f"ALiBi({len(self.slopes)}) does not fit attention of num_heads={num_heads}")

    def bias(
        self, query_positions: Int[Tensor, "#batch query"], key_positions: Int[Tensor, "#batch key"]
    ) -> Float[Tensor, "#batch heads query key"]:
        queries = rearrange(query_positions, "batch query -> batch 1 query 1")
        keys = rearrange(key_positions, "batch key -> batch 1 1 key")
        # In float32 whatever the slopes were cast to: bfloat16 cannot tell distance 257 from 258.
        return -rearrange(self.slopes.float(), "heads -> 1 heads 1 1") * (queries - keys).abs()


class RelativeBias(AttentionPositions):
    """A learned number per head and bucket of distances (T5: Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the other half grow logarithmically up to `max_distance`,
    and the last holds everything beyond. `bidirectional` spends half of the buckets on later keys; without it
    they all share the bucket of distance 0. T5 hands one such module to all layers of a stack.
    """

    def __init__(self, num_heads: int, *, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True):
        super().__init__()
        one_sided = num_buckets // 2 if bidirectional else num_buckets
        if one_sided < 2 or max_distance <= one_sided // 2:
            raise InputError(
                f"num_buckets={num_buckets} and max_distance={max_distance} leave no room: a direction needs at "
                f"least 2 buckets, and max_distance must exceed its exact half, {one_sided // 2}"
            )
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional
        self.embedding = nn.Embedding(num_buckets, num_heads)

    def check_sizes(self, num_heads: int, head_dim: int) -> None:
        if num_heads != self.embedding.embedding_dim:
            raise InputError(f"RelativeBias({self.embedding.embedding_dim}) does not fit num_heads={num_heads}")

    def bias(
        self, query_positions: Int[Tensor, "#batch query"], key_positions: Int[Tensor, "#batch key"]
    ) -> Float[Tensor, "#batch heads query key"]:
        queries = rearrange(query_positions, "batch query -> batch query 1")
        keys = rearrange(key_positions, "batch key -> batch 1 key")
        biases = self.embedding(self.buckets(keys - queries))
        return rearrange(biases, "batch query key heads -> batch heads query key")

    def buckets(self, ahead: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of each signed distance (key position - query position)."""
        if self.bidirectional:
            count = self.num_buckets // 2
            offset = (ahead > 0).long() * count
            distance = ahead.abs()
        else:
            count = self.num_buckets
            offset = torch.zeros_like(ahead)
            distance = (-ahead).clamp(min=0)
        exact = count // 2
        # Clamped before the logarithm, so that distance 0 gives no -inf on the branch that is not taken.
        growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (growth * (count - exact)).long()).clamp(max=count - 1)
        return offset + torch.where(distance < exact, distance, far)


def turned(x: Heads, cos: Float[Tensor, "#batch 1 time half"], sin: Float[Tensor, "#batch 1 time half"]) -> Heads:
    """Each pair (x_i, x_{i + head_dim / 2}) turned by its angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


ROPE_SCALINGS: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""The values of "rope_type" in a scaling of `Rotary`, and the numbers that each needs.

"linear" divides all angles by `factor` (Chen et al. 2023). "llama3" divides the slow ones alone, which turn less than
`low_freq_factor` times in the original context; those that turn more than `high_freq_factor` times stay as they are,
and between the two it goes over smoothly (Grattafiori et al. 2024)."""


def require_scaling(scaling: Mapping[str, Any] | None) -> None:
    """`InputError` for a scaling of an unknown type, or with numbers that are missing, unknown or not positive."""
    if scaling is None:
        return
    kind = scaling.get("rope_type")
    if not isinstance(kind, str) or kind not in ROPE_SCALINGS:
        raise InputError(f"rope_type={shown(kind)} must be one of {', '.join(ROPE_SCALINGS)}")
    needed, given = ROPE_SCALINGS[kind], [name for name in scaling if name != "rope_type"]
    if set(needed) != set(given):
        raise InputError(f"rope_type={kind!r} takes {', '.join(needed)}; given are {shown(given)}")
    for name in needed:
        require_given(**{name: scaling[name]})
        require_number(name, scaling[name], at_least=1e-30)
    if kind == "llama3" and not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        raise InputError(f"low_freq_factor={low} must be less than high_freq_factor={high}")


def _scaled(frequency: Float[Tensor, " half"], scaling: Mapping[str, Any]) -> Float[Tensor, " half"]:
    slow = frequency / scaling["factor"]
    if scaling["rope_type"] == "linear":
        return slow
    rounds = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((rounds - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * slow


def _angles(
    positions: Int[Tensor, "batch time"], dim: int, base: float, scaling: Mapping[str, Any] | None = None
) -> Float[Tensor, "batch time half"]:
    """positions · base^(-2i/dim) in radians, for i = 0 .. dim/2 - 1.

    In float64 where the device has it: at position 500 a float32 angle is already off by more than 1e-5,
    and bfloat16 cannot tell position 257 from 258.
    """
    dtype = torch.float32 if positions.device.type == "mps" else torch.float64
    frequency = base ** -(torch.arange(0, dim, 2, device=positions.device, dtype=dtype) / dim)
    if scaling is not None:
        frequency = _scaled(frequency, scaling)
    return positions[..., None].to(dtype) * frequency


def _geometric_slopes(num_heads: int) -> list[float]:
    return [2 ** (-8 * (head + 1) / num_heads) for head in range(num_heads)]
