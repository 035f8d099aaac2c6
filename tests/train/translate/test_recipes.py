import pytest
import torch

from minitransformer.optim import adamw, muon
from train.translate.recipes import CHARACTERS, OPTIMIZERS, PRESETS, RECALL, TINY, recipe_for
from train.translate.settings import TranslateSettings

TABLES = [
    ("characters", "dates"),
    ("characters", "recall"),
    ("characters", "locales"),
    ("dates-15s", "dates"),
    ("tiny", ""),
    ("dates-of-all-locales", "locales"),
]


def test_default_models_have_66_000_parameters_within_two_percent():
    for name in ("rnn-location", "rnn-additive", "transformer", "rnn-dot", "rnn-general", "rnn-concat", "rnn-none"):
        for data in ("dates", "recall"):
            recipe = recipe_for(name, "characters", data)
            model = recipe.build(source_vocab_size=39, target_vocab_size=15, joint=False, max_length=30)
            assert abs(model.num_parameters() / 66_000 - 1) < 0.02, (name, data, model.num_parameters())


def test_the_quick_models_have_66_000_parameters_within_two_percent():
    for recipe in PRESETS["dates-15s"].recipes.values():
        model = recipe.build(source_vocab_size=39, target_vocab_size=15, joint=False, max_length=30)
        assert abs(model.num_parameters() / 66_000 - 1) < 0.02


def test_every_recipe_of_sentences_builds_with_one_vocabulary_and_with_two():
    for recipe in TINY.values():
        for joint in (True, False):
            sizes = dict(source_vocab_size=50, target_vocab_size=50 if joint else 40)
            with torch.device("meta"):
                model = recipe.build(**sizes, joint=joint, max_length=32, dropout=0.25, label_smoothing=0.0)
            assert model.config.dropout == 0.25


def test_the_talks_recipe_is_the_talks_model():
    model = CHARACTERS["talk"].build(source_vocab_size=37, target_vocab_size=13, joint=False, max_length=30)
    assert model.num_parameters() == 66_091
    assert not model.config.masked
    assert model.config.teacher_forcing == 0.5


@pytest.mark.parametrize(("preset", "data"), TABLES)
def test_batches_are_the_same_for_all_models_of_a_table_but_the_talks(preset, data):
    recipes = [recipe_for(name, preset, data) for name in PRESETS[preset].recipes if name != "talk"]
    assert len({(recipe.max_tokens, recipe.pool) for recipe in recipes}) == 1


@pytest.mark.parametrize(("preset", "data"), TABLES)
def test_another_optimizer_brings_its_own_rate(preset, data):
    recipe = recipe_for("transformer", preset, data)
    other = next(name for name, optimizer in OPTIMIZERS.items() if optimizer is not recipe.optimizer)
    changed = recipe.with_optimizer(other)
    assert (changed.optimizer, changed.lr) == (OPTIMIZERS[other], recipe.other_rates[other])
    for name in PRESETS["characters"].recipes:
        assert recipe_for(name, "characters", "dates").with_optimizer("adamw").optimizer is adamw


def test_flags_that_replace_parts_of_a_presets_recipes_are_named():
    settings = TranslateSettings(preset="tiny", lr=0.5, max_tokens=90)
    assert settings.overruled() == "--preset tiny: --lr 0.5, --max-tokens 90 instead of its own"
    assert not TranslateSettings(preset="tiny").overruled() and not TranslateSettings(lr=0.5).overruled()


def test_a_given_rate_replaces_the_recipes():
    for flags, rate in (({}, RECALL["transformer"].other_rates["muon"]), ({"lr": 0.5}, 0.5)):
        settings = TranslateSettings(data="recall", models="transformer", optimizer="muon", **flags)
        recipe = settings.recipes("characters")["transformer"]
        assert (recipe.optimizer, recipe.lr) == (muon, rate)
