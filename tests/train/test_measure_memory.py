"""Memory is measured of what the jobs do."""

import io

import pytest
import tyro
from helpers_scripts import refused
from rich.console import Console

from minitransformer.errors import InputError
from train.finetune.settings import FinetuneSettings
from train.measure_memory import __main__ as measure_memory
from train.measure_memory.__main__ import JOBS, MemorySettings, measured, show
from train.measure_memory.made_up_text import write_corpus
from train.pretrain.bert.settings import BERTSettings
from train.pretrain.gpt.settings import GPTSettings
from train.translate.settings import TranslateSettings

SETTINGS = {"gpt": GPTSettings, "bert": BERTSettings, "translate": TranslateSettings, "finetune": FinetuneSettings}
STAND_IN = """
import os, pathlib, sys
tokens = pathlib.Path(os.environ["MINITRANSFORMER_CACHE"], "tokens")
tokens.mkdir(parents=True)
(tokens / "ids").write_bytes(bytes(300_000))
if "--tokenizer" in sys.argv:
    sys.exit("no such tokenizer")
taken = bytearray(200_000_000)
taken[::4096] = b"x" * len(taken[::4096])
"""


def test_the_figures_are_those_of_a_process_and_its_failure_is_said(tmp_path, monkeypatch):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(measure_memory.JOBS, "gpt", ["stand_in"])
    figures = measured(MemorySettings(), 60_000)
    assert (figures["megabytes"], figures["token_file_megabytes"]) == (0.06, 0.3)
    assert 200 < figures["peak_megabytes"] < 10_000
    assert 0 < figures["processor_seconds"] < 60
    with pytest.raises(InputError, match="the measurement of 0 MB failed: no such tokenizer"):
        measured(MemorySettings(tokenizer="bpe"), 60_000)


@pytest.mark.parametrize("job", JOBS)
def test_the_flags_of_every_job_are_flags_of_its_script(job):
    flags = [word for word in JOBS[job][1:] if word not in SETTINGS]
    tyro.cli(SETTINGS[job], args=flags).validate()


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
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


@pytest.mark.parametrize(("out", "message"), [("", "is a folder"), ("none/x.json", "x.json: there is no folder none")])
def test_a_place_that_cannot_be_written_to_is_refused_before_measuring(out, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure_memory, "measured", lambda *_: pytest.fail("it measures"))
    assert message in refused(capsys, ["--out", out], measure_memory.main)


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
