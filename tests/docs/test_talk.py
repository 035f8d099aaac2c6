"""The talk: its blocks are short, its models learn what the text says, and it runs as a notebook."""

import runpy
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def talk():
    return Sybil(parsers=[PythonCodeBlockParser()], path=str(DOCS)).parse(DOCS / "talk.md")


def test_no_block_has_more_than_fifteen_lines_of_code(talk):
    for block in talk.examples():
        assert len([line for line in block.parsed.splitlines() if line.strip()]) <= 15, block.parsed


@pytest.mark.slow
def test_attention_learns_the_dates_and_one_vector_does_not(talk, tmp_path, monkeypatch):
    """With all the steps that readers train; the other tests run two steps of each model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TALK_STEPS", raising=False)
    for block in talk.examples():
        block.evaluate()
    names = talk.namespace
    right, losses = names["right"], names["losses"]
    assert right(names["bahdanau"]) > 0.9 and right(names["luong"]) > 0.9
    assert right(names["without"]) < right(names["talk"]) < right(names["bahdanau"])
    assert right(names["transformer"]) > 0.5
    assert losses["Transformer"][-1][1] < losses["by place"][-1][1]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_a_picture_in_every_chapter(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra notebook is not installed: make notebook")
    pytest.importorskip("jupytext", reason="the extra notebook is not installed: make notebook")
    monkeypatch.setenv("TALK_STEPS", "2")
    notebook = runpy.run_path(str(DOCS / "notebook.py"))["notebook"]()
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    pictures, chapter = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("## ")]
            chapter = headings[-1] if headings else chapter
        else:
            shown = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            pictures[chapter] = pictures.get(chapter, 0) + len(shown)
    chapters = [name for name in pictures if name[3:4].isdigit()]
    assert len(chapters) == 9 and all(pictures[name] for name in chapters), pictures
