"""Presets: values of flags under one name, below the flags of the user and above the defaults."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, get_type_hints

import pytest
from helpers_scripts import refused

from minitransformer.checks import fits
from train.engine.presets import Preset, preset_flag
from train.engine.run_folder import create_run, open_run, run_job
from train.engine.settings import Settings
from train.finetune.settings import FinetuneSettings
from train.pretrain.bert.settings import BERTSettings
from train.pretrain.gpt.settings import GPTSettings
from train.translate.settings import TranslateSettings

PRESETS = {
    "large": Preset("Five of the best.", dict(data="plays", size=5, rate=0.5, minutes=2.0)),
    "small": Preset("One is enough.", dict(size=1)),
}


@dataclass(frozen=True)
class Some(Settings):
    """Settings of some script."""

    presets: ClassVar = PRESETS

    preset: Annotated[str | None, preset_flag(PRESETS, "A recipe.")] = None
    data: str = "dates"
    size: int = 3
    rate: float = 0.1
    init: Path | None = None

    def validate(self):
        super().validate()
        if self.init is not None:
            self.refuse_idle(f"beside --init {self.init}", "size")


def opened(*words):
    settings, folder = open_run(Some, "some", [str(word) for word in words])
    create_run(folder, settings)
    return settings


def test_a_preset_lies_above_the_defaults_and_below_the_flags_of_file_and_command_line(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text('preset = "large"\nrate = 0.2\n')
    settings = opened("--config", tmp_path / "mine.toml", "--size", "6", "--out", tmp_path / "run")
    assert (settings.data, settings.size, settings.rate, settings.minutes) == ("plays", 6, 0.2, 2.0)
    assert capsys.readouterr().out == "--preset large: other flags replace its --size 5, --rate 0.5\n"
    assert opened("--preset", "small", "--config", tmp_path / "mine.toml", "--out", tmp_path / "one").size == 1


def test_other_data_than_the_presets_are_taken_and_said(tmp_path, capsys):
    assert opened("--preset", "large", "--data", "mine", "--out", tmp_path / "run").size == 5
    assert "other flags replace its --data plays; it was not chosen on these data" in capsys.readouterr().out


def test_another_length_replaces_the_presets_and_the_same_values_are_not_worth_a_line(tmp_path, capsys):
    settings = opened("--preset", "large", "--steps", "7", "--size", "5", "--out", tmp_path / "run")
    assert (settings.steps, settings.minutes) == (7, None)
    assert "replace its --minutes 2.0\n" in capsys.readouterr().out
    assert opened("--preset", "large", "--size", "5", "--out", tmp_path / "whole").minutes == 2.0
    assert capsys.readouterr().out == ""


def test_the_flags_of_a_run_hold_the_values_used_and_repeat_and_resume_it(tmp_path):
    first = opened("--preset", "large", "--steps", "7", "--out", tmp_path / "run")
    written = tomllib.loads((tmp_path / "run" / "flags.toml").read_text())
    assert (written["preset"], written["size"], written["data"], written["steps"]) == ("large", 5, "plays", 7)
    again = opened("--config", tmp_path / "run" / "flags.toml", "--out", tmp_path / "again")
    resumed = opened("--resume", tmp_path / "run")
    free = dict(config=None, out=None, given=(), run_id="", resume=None)
    assert len({dataclasses.replace(each, **free) for each in (first, again, resumed)}) == 1


def test_flags_of_a_preset_that_have_no_effect_are_a_warning_and_those_of_the_user_are_refused(tmp_path, capsys):
    with pytest.warns(UserWarning, match="--preset small: its --size: no effect beside --init x"):
        opened("--preset", "small", "--init", "x", "--out", tmp_path / "run")
    words = ["--preset", "small", "--init", "x", "--size", "1"]
    said = refused(capsys, words, lambda words: run_job(Some, "some", lambda *_: None, words))
    assert "--size: no effect beside --init x; leave this out" in said


@pytest.mark.parametrize("settings_class", [Some, GPTSettings, BERTSettings, FinetuneSettings, TranslateSettings])
def test_help_has_a_line_for_each_preset_and_another_name_is_refused_with_them(settings_class, capsys):
    def program(words):
        run_job(settings_class, "some", lambda *_: None, words)

    with pytest.raises(SystemExit):
        program(["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, preset in settings_class.presets.items():
        assert f"{name}: {preset.about}" in shown
    said = refused(capsys, ["--preset", "huge"], program)
    assert f"--preset huge: the presets are {', '.join(settings_class.presets)}" in said


@pytest.mark.parametrize("settings_class", [GPTSettings, BERTSettings, FinetuneSettings, TranslateSettings])
def test_every_preset_has_possible_values_of_flags_that_the_job_has(settings_class):
    hints = get_type_hints(settings_class)
    for name, preset in settings_class.presets.items():
        assert all(fits(value, hints[field]) for field, value in preset.flags.items()), name
        settings_class(preset=name, **preset.flags).validate()
