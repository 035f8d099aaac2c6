"""Parts of BERT that stand on their own."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minitransformer.activations import ACTIVATIONS
from minitransformer.norms import make_norm


class MaskedHead(nn.Module):
    """Linear, activation, norm, then a score for each token against its own embedding, plus a bias per token."""

    def __init__(self, embedding: nn.Embedding, config: Any):
        super().__init__()
        c = config
        self.project = nn.Linear(c.d_model, embedding.embedding_dim, bias=c.bias)
        self.activation = ACTIVATIONS[c.activation]
        self.norm = make_norm(c.norm, embedding.embedding_dim, eps=c.norm_eps, bias=c.bias)
        self.output = nn.Linear(embedding.embedding_dim, embedding.num_embeddings, bias=c.bias)
        self.output.weight = embedding.weight

    def forward(self, states: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        return self.output(self.norm(self.activation(self.project(states))))


def shared_in_groups(blocks: Sequence[nn.Module], num_layers: int) -> list[nn.Module]:
    """`num_layers` places for fewer blocks, each of which stands in as many neighbouring ones."""
    return [blocks[i * len(blocks) // num_layers] for i in range(num_layers)]


def first_places(valid: Bool[Tensor, "batch time"]) -> Int[Tensor, " batch"]:
    """Where each row's first real token stands; 0 in a row that has none."""
    return valid.long().argmax(dim=1)


def first_states(
    states: Float[Tensor, "batch time d_model"], valid: Bool[Tensor, "batch time"] | None
) -> Float[Tensor, "batch d_model"]:
    """The state of each row's first real token; None: no row is padded at its left."""
    if valid is None:
        return states[:, 0]
    return states[torch.arange(len(states), device=states.device), first_places(valid)]
