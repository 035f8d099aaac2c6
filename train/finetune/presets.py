"""Recipes of `python -m train.finetune` that were measured, under names for `--preset`."""

from pathlib import Path

from train.engine.presets import Preset

PRESETS = {
    "reviews-minilm": Preset(
        "MiniLM on film reviews: the default, with every flag spelled out.",
        dict(data="reviews", init=Path("minilm"), pooling="mean", lr=1.5e-4, layer_decay=0.85, epochs=2),
    ),
    "reviews-scratch": Preset(
        "A new Transformer of 2 layers x 128 on film reviews.",
        dict(
            data="reviews",
            init=Path("scratch"),
            encoder="transformer",
            num_layers=2,
            d_model=128,
            num_heads=4,
            vocab_size=8000,
            pooling="mean",
            dropout=0.3,
            lr=5e-4,
            epochs=4,
        ),
    ),
}
