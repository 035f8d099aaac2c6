"""Model cards: what the README.md of a run and of an exported model says, and whose it is."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers_models import fresh_gpt
from helpers_runs import SMALL
from helpers_scripts import results_of

from minitransformer.files import sha256
from minitransformer.model_card import MARK
from train.engine.model_card import commands, figures
from train.pretrain.__main__ import main
from train.pretrain.gpt.settings import GPTSettings


def header_and_body(folder):
    _, header, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), body


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    (folder / "text.txt").write_text("ten green bottles hanging on the wall. " * 30)
    flags = ["gpt", *SMALL, "--context", "8", "--steps", "2", "--device", "cpu", "--data", str(folder / "text.txt")]
    main([*flags, "--out", str(folder / "run")])
    return folder / "run"


def test_the_card_of_a_run_has_its_data_command_figures_and_use(run, tmp_path):
    header, body = header_and_body(run)
    assert header == {
        "library_name": "minitransformer",
        "pipeline_tag": "text-generation",
        "tags": ["minitransformer", "gpt"],
    }
    assert f"- text.txt: {sha256(run.parent / 'text.txt')}" in body
    assert f"| bits_per_byte | {results_of(run)['bits_per_byte']:.4g} |" in body
    [use] = re.findall(r"```python\n(.*?)```", body, flags=re.S)
    names = {}
    exec(use.replace("FOLDER", str(run)), names)
    assert isinstance(names["model"]("To be", max_new_tokens=2), str)
    [line] = re.findall(r"```bash\n(.*?)```", body, flags=re.S)
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "train.pretrain"]
    main([*words[3:], "--out", str(tmp_path / "again")])
    assert results_of(tmp_path / "again")["validation_loss"] == results_of(run)["validation_loss"]


def test_a_card_that_is_lost_is_written_again_and_a_users_own_is_left_alone(run):
    path = run / "README.md"
    written = path.read_text()
    for before, after in ((None, written), (written.replace(MARK, "mine"), written.replace(MARK, "mine"))):
        path.unlink()
        if before is not None:
            path.write_text(before)
        with pytest.raises(SystemExit):
            main(["gpt", "--resume", str(run)])
        assert path.read_text() == after
    path.write_text(written)


def test_a_command_names_what_is_not_the_default_and_the_processes():
    settings = replace(GPTSettings(), data="my text.txt", samples=False, steps=3, out=Path("x"), processes=2)
    [line] = commands(settings, "pretrain gpt")
    words = shlex.split(line)
    assert words[:5] == ["torchrun", "--nproc-per-node", "2", "-m", "train.pretrain"]
    assert {*words[5:]} == {"gpt", "--steps", "3", "--no-samples", "--data", "my text.txt"}


def test_the_commands_of_a_run_that_was_made_longer_repeat_it(run, tmp_path):
    longer, again = tmp_path / "longer", tmp_path / "again"
    shutil.copytree(run, longer)
    main(["gpt", "--resume", str(longer), "--steps", "4"])
    [block] = re.findall(r"```bash\n(.*?)```", header_and_body(longer)[1], flags=re.S)
    for line in block.splitlines():
        words = line.replace("--config ", f"--config {longer}/").replace("RUN", str(again)).split()
        main(words[3:])
    assert results_of(again)["steps"] == 4
    assert sha256(again / "model.safetensors") == sha256(longer / "model.safetensors")


def test_a_comparison_has_a_row_for_each_model():
    models = {"a": {"bleu": 1.0, "seconds": 2.0}, "b": {"bleu": 0.5, "chrf": 3.0, "tokens_per_second": 9.0}}
    split, table = figures({"models": models, "scored_on": "test"})
    assert split == "On the test split."
    assert table.splitlines()[2:] == ["| a | 1 |  |", "| b | 0.5 | 3 |"]


@pytest.mark.parametrize("before", [None, "my own card\n"])
def test_an_exported_folder_gets_a_card_unless_it_has_one(tmp_path, before):
    if before is not None:
        (tmp_path / "README.md").write_text(before)
    fresh_gpt().export(tmp_path)
    if before is not None:
        assert (tmp_path / "README.md").read_text() == before
        return
    header, body = header_and_body(tmp_path)
    assert header["library_name"] == "transformers" and header["pipeline_tag"] == "text-generation"
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] in header["tags"]
    assert 'AutoModelForCausalLM.from_pretrained("FOLDER")' in body
