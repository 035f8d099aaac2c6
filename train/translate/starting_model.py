"""The translator that `--init` names, as a run on other pairs takes it: its model, its tokenizers and its recipe."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer

from minitransformer.pipelines.translator import Translator
from train.translate.recipes import Recipe, Seq2SeqModel
from train.translate.settings import TranslateSettings


def recipes_of(settings: TranslateSettings, preset: str, init: Translator | None) -> dict[str, Recipe]:
    """The recipe of each model that is trained: of the model of `--init` alone, if there is one."""
    if init is None:
        return settings.recipes(preset)
    attention = getattr(init.model.config, "attention", None)
    name = "transformer" if attention is None else f"rnn-{attention}"
    recipes = replace(settings, models=name).recipes(preset)
    return {name: replace(recipe, build=continued(init.model)) for name, recipe in recipes.items()}


def tokenizers_of(init: Translator | None) -> tuple[Tokenizer, Tokenizer] | None:
    return None if init is None else (init.source_tokenizer, init.target_tokenizer)


def tokenizer_kind(init: Translator | None) -> str | None:
    """ "character" or "bpe", of which the first is a list of its characters; None without a translator."""
    if init is None:
        return None
    return "character" if type(init.source_tokenizer.model).__name__ == "WordLevel" else "bpe"


def within_source(limit: int | None, init: Translator | None) -> int | None:
    """The most tokens of a training pair: `limit`, or less if the model of `--init` can take no more."""
    if init is None or _takes_any_length(init.model):
        return limit
    return min(filter(None, (limit, init.model.config.max_length)))


def continued(model: Seq2SeqModel) -> Callable[..., Seq2SeqModel]:
    """A recipe's `build`: the same weights, with limits that suit the new data too."""

    def build(*, max_length: int, max_extra_tokens: int, **_: Any) -> Seq2SeqModel:
        old = model.config
        limits = {"max_extra_tokens": max(max_extra_tokens, old.max_extra_tokens)}
        if _takes_any_length(model):
            limits["max_length"] = max(max_length, old.max_length)
        changed = type(model)(replace(old, **limits))
        changed.load_state_dict(model.state_dict())
        return changed

    return build


def _takes_any_length(model: Seq2SeqModel) -> bool:
    """Whether no parameter depends on `max_length`, as learned positions do."""
    with torch.device("meta"):
        longer = type(model)(replace(model.config, max_length=model.config.max_length + 1)).state_dict()
    return all(longer[name].shape == tensor.shape for name, tensor in model.state_dict().items())
