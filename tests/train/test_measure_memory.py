"""Memory is measured of what the jobs do."""

import io

import pytest
from rich.console import Console

from minitransformer.errors import InputError
from train.measure_memory.__main__ import JOBS, MemorySettings, measured, show
from train.measure_memory.made_up_text import write_corpus


@pytest.mark.parametrize("job", ["gpt", *(pytest.param(job, marks=pytest.mark.slow) for job in JOBS if job != "gpt")])
def test_memory_is_measured_of_a_run_on_generated_texts(job, tmp_path):
    write_corpus(job, tmp_path / "corpus", 60_000)
    train = [file.stat().st_size for file in (tmp_path / "corpus").iterdir() if "validation" not in file.name]
    assert 50_000 < sum(train) <= 60_020
    figures = measured(MemorySettings(job=job, steps=2), 60_000)
    assert 0.02 < figures["token_file_megabytes"] < 1
    assert 100 < figures["peak_megabytes"] < 10_000
    assert figures["processor_seconds"] > 1


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
        ({"steps": 0}, "--steps 0 must be more than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MemorySettings(**settings).sizes()
