"""Memory is measured of what the jobs do."""

import io

import pytest
from rich.console import Console

from minitransformer.data import load
from minitransformer.errors import InputError
from train.measure_memory.__main__ import MemorySettings, show
from train.measure_memory.jobs import JOBS, measured
from train.measure_memory.made_up_text import write_corpus


@pytest.mark.parametrize("job", JOBS)
def test_memory_is_measured_of_generated_texts(job, tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    path = write_corpus(job, folder, 60_000)
    assert 50_000 < sum(file.stat().st_size for file in folder.iterdir() if "validation" not in file.name) <= 60_020
    figures = measured(MemorySettings(job=job, steps=2), path)
    assert figures["tokens"] > 1000
    assert 0 < figures["start_megabytes"] <= figures["prepared_megabytes"] <= figures["peak_megabytes"]
    assert figures["tokens_seconds"] > 0
    if job == "translate":
        assert figures["pairs"] == len(load(path, source="from", target="to")["train"])
    if job == "finetune":
        assert figures["texts"] == len(load(path, kind="labelled")["train"])


def test_a_figure_that_only_some_sizes_have_is_shown_for_them():
    said = io.StringIO()
    show([{"megabytes": 5}, {"megabytes": 100, "token_file_megabytes": 71.0}], Console(file=said, width=200))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.getvalue().splitlines() if "│" in line]
    assert rows == [["token file megabytes", "", "71.0"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"job": "bert", "tokenizer": "character"}, "--tokenizer character is for --job gpt"),
        ({"megabytes": "1,x"}, "--megabytes 1,x: whole numbers"),
        ({"megabytes": "0"}, "--megabytes 0: whole numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        settings = MemorySettings(**settings)
        settings.validate()
        settings.sizes()
