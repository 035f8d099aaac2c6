"""Recipes of `python -m train.pretrain bert` that were measured, under names for `--preset`."""

from train.engine.presets import Preset

PRESETS = {
    "reviews-4min": Preset(
        "4 layers x 128 on film reviews and the Bible: the default, with every flag spelled out.",
        dict(
            data="reviews,bible",
            objective="bert",
            architecture="modern",
            vocab_size=8000,
            num_layers=4,
            d_model=128,
            num_heads=4,
            context=64,
            batch_tokens=1024,
            mask_rate=0.3,
            dropout=0.0,
            optimizer="muon",
            lr=5e-3,
            minutes=4.0,
        ),
    ),
}
