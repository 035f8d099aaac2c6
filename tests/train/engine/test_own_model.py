"""A model of one's own, as `docs/own_model.md` has it: trained, resumed, scored, found by `load`, and in a notebook."""

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import minitransformer
from minitransformer import Config, InputError, Loss, Model
from train.engine import TrainingInterrupted

PAGE = Path(__file__).parents[3] / "docs/own_model.md"


def blocks():
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(PAGE.parent)).parse(PAGE)
    return document, list(document.examples())


@dataclass(frozen=True)
class Empty(Config):
    pass


def model_class(name, module):
    class Own(Model):
        config_class = Empty

        def __init__(self, config):
            super().__init__()
            self.config = config
            self.output = torch.nn.Linear(2, 2)

        def loss(self, batch):
            return {"own": Loss(self.output.weight.sum(), self.count_targets(batch)["own"])}

        def count_targets(self, batch):
            return {"own": torch.ones(())}

    Own.__name__, Own.__module__ = name, module
    return Own


def test_the_model_of_the_page_has_twenty_lines_learns_and_resumes_with_the_same_bits(
    tmp_path, monkeypatch, as_users_run_it
):
    monkeypatch.chdir(tmp_path)
    document, examples = blocks()
    for block in examples:
        block.evaluate()
    names = document.namespace
    [own] = [block.parsed for block in examples if "class Largest(Model)" in block.parsed]
    lines = [line for line in own[own.index("class Largest(") :].splitlines() if line.strip()]
    assert len(lines) <= 20
    untrained = names["Largest"](names["LargestConfig"](10)).eval()
    assert names["results"]["accuracy"] > 0.9 > names["figures"](untrained, "test")["accuracy"]
    assert type(minitransformer.load(names["folder"])) is names["Largest"]

    whole, _ = names["run"](tmp_path / "whole", steps=10)
    figures = names["figures"]
    names["figures"] = lambda model: signal.raise_signal(signal.SIGINT) or figures(model)
    with pytest.raises(TrainingInterrupted):
        names["run"](tmp_path / "parts", steps=10)
    names["figures"] = figures
    resumed, state = names["run"](tmp_path / "parts", steps=10)
    assert state.step == 10 and len(state.history) == 5
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_load_finds_the_latest_definition_of_a_class(tmp_path):
    model_class("Found", "notebook")(Empty()).save(tmp_path)
    latest = model_class("Found", "notebook")
    assert type(minitransformer.load(tmp_path)) is latest


def test_load_refuses_a_class_that_is_not_imported_or_that_two_modules_have(tmp_path):
    kinds = [model_class("Twice", module) for module in ("one", "two")]
    kinds[0](Empty()).save(tmp_path)
    with pytest.raises(InputError, match="holds a Twice, and one, two have one each: use load of the class itself"):
        minitransformer.load(tmp_path)
    assert type(kinds[0].load(tmp_path)) is kinds[0]
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("Twice", "Unheard"))
    with pytest.raises(InputError, match=r"'Unheard', which is none of BERT, .*; import your own models before"):
        minitransformer.load(tmp_path)


@pytest.mark.slow
def test_a_notebook_shows_a_line_for_each_evaluation(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra notebook is not installed: make notebook")
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook is not installed: make notebook")
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[1]))
    cells = [nbformat.v4.new_code_cell(block.parsed) for block in blocks()[1]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    [outputs] = [cell.outputs for cell in cells if "def run" in cell.source]
    assert {output.output_type for output in outputs} == {"stream"}
    shown = "".join(output.text for output in outputs).splitlines()
    assert [line.split(",")[0] for line in shown] == [f"training: step {step}" for step in (40, 80, 120, 160, 200)]
    assert not any("\x1b" in line or "\r" in line for line in shown)
