"""How each kind of encoder is fine-tuned best: the defaults of flags that are left out, found on film reviews."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    lr: float
    epochs: int
    pooling: str
    dropout: float | None = None
    """None keeps the dropout of the pretrained encoder."""
    layer_decay: float = 1.0


PRETRAINED = Recipe(lr=1.5e-4, epochs=2, pooling="mean", layer_decay=0.85)
SMALL_PRETRAINED = Recipe(lr=5e-4, epochs=5, pooling="mean", dropout=0.1)
SMALL_WIDTH = 384
"""Narrower pretrained encoders, as `train.pretrain` makes them, take the small recipe."""
NEW = Recipe(lr=5e-4, epochs=4, pooling="mean", dropout=0.3)
NEW_RNN = Recipe(lr=2e-3, epochs=4, pooling="attention", dropout=0.3)
