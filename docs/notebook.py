"""Writes `talk.md` as a notebook, a cell for each Python block: `make notebook`."""

from pathlib import Path

import jupytext
from nbformat import NotebookNode, v4

TALK = Path(__file__).with_name("talk.md")


def notebook() -> NotebookNode:
    """The talk. A first cell makes Jupyter show the figures that cells end in."""
    talk = jupytext.read(TALK)
    talk.cells.insert(0, v4.new_code_cell("%matplotlib inline"))
    talk.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return talk


if __name__ == "__main__":
    path = TALK.with_suffix(".ipynb")
    jupytext.write(notebook(), path)
    print(path)
