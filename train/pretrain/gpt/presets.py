"""Recipes of `python -m train.pretrain gpt` that were measured, under names for `--preset`."""

from typing import Any

from train.engine.presets import Preset

_CHARACTERS: dict[str, Any] = dict(
    tokenizer="character", architecture="modern", optimizer="muon+", lr=5e-3, context=128, batch_size=16
)
_MEDIUM: dict[str, Any] = dict(_CHARACTERS, num_layers=5, d_model=192, num_heads=6)

PRESETS = {
    "characters-1min": Preset(
        "4 layers x 128, a minute on two cores. Loss on tinyshakespeare: 1.59.",
        dict(_CHARACTERS, num_layers=4, d_model=128, num_heads=4, minutes=1.0),
    ),
    "characters-5min": Preset(
        "5 layers x 192, 5 minutes. Loss on tinyshakespeare: 1.47.",
        dict(_MEDIUM, minutes=5.0),
    ),
    "characters-20min": Preset(
        "The same with dropout and Muon, 20 minutes. Loss on tinyshakespeare: 1.46.",
        dict(_MEDIUM, optimizer="muon", dropout=0.1, minutes=20.0),
    ),
}
