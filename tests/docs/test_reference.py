"""The tables of options in `docs/reference.md` agree with the code."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

from minitransformer import BERTConfig, ClassifierConfig, EncoderBlock, GPTConfig, RNNConfig, TransformerConfig
from minitransformer.checks import choices

REFERENCE = (Path(__file__).parents[2] / "docs/reference.md").read_text(encoding="utf-8")
CONFIGS = {
    "Transformer": TransformerConfig,
    "GPT": GPTConfig,
    "BERT": BERTConfig,
    "RNN": RNNConfig,
    "Classifier": ClassifierConfig,
}
NO_DEFAULT = (inspect.Parameter.empty, dataclasses.MISSING)


def table(title):
    """{option: the cells behind it}"""
    section = re.search(rf"^## {title}\n(.*?)^## ", REFERENCE, flags=re.M | re.S)[1]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def written(default):
    return "required" if default in NO_DEFAULT else f"`{default!r}`"


def test_options_of_blocks_have_their_defaults():
    parameters = list(inspect.signature(EncoderBlock.__init__).parameters.values())[1:]
    shown = {name: cells[0] for name, cells in table("Options of blocks").items()}
    assert shown == {each.name: written(each.default) for each in parameters}


def test_options_of_configurations_have_their_defaults():
    shown = {}
    for option, (*_, defaults) in table("Options of configurations").items():
        for default in defaults.split("; "):
            name, value = default.split(": ")
            shown.setdefault(name, {})[option] = value
    assert shown == {
        name: {field.name: written(field.default) for field in dataclasses.fields(config)}
        for name, config in CONFIGS.items()
    }


def test_options_of_configurations_have_their_accepted_values():
    rows = table("Options of configurations")
    for config in CONFIGS.values():
        for name, hint in typing.get_type_hints(config).items():
            missing = [word for word in choices(hint) if word != "None" and f'`"{word}"`' not in rows[name][0]]
            assert not missing, (config, name)
