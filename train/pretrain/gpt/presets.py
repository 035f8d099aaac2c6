"""Recipes of `python -m train.pretrain gpt` that were measured, under names for `--preset`."""

from train.engine.presets import Preset

PRESETS = {
    "shakespeare-2.5min": Preset(
        "4 layers x 128 on characters of the plays: the default, with every flag spelled out.",
        dict(
            data="shakespeare",
            tokenizer="character",
            architecture="modern",
            num_layers=4,
            d_model=128,
            num_heads=4,
            context=128,
            batch_size=16,
            dropout=0.0,
            optimizer="muon",
            lr=5e-3,
            minutes=2.5,
        ),
    ),
}
