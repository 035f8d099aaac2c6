"""What is measured of memory is what the jobs do."""

import io

import pytest
from rich.console import Console

from minitransformer.data import labelled_files, load, remembered, token_cache
from minitransformer.errors import InputError
from train.measure_memory.__main__ import JOBS, WRITERS, MemorySettings, show
from train.pretrain.bert import rows as masked_rows


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", 0)
    monkeypatch.setattr(token_cache, "SMALL", 0)
    monkeypatch.setattr(masked_rows, "SMALL", 0)
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("job", JOBS)
def test_memory_is_measured_of_generated_texts(job, tmp_path):
    name, write = WRITERS[job]
    path = tmp_path / name
    write(path, 60_000)
    figures = JOBS[job](MemorySettings(job=job, steps=2), path)
    assert figures["tokens"] > 1000
    assert figures.keys() >= {"start_megabytes", "prepared_megabytes", "peak_megabytes", "tokens_seconds"}
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2
    if job == "translate":
        assert 50_000 < sum(file.stat().st_size for file in path.glob("train.*")) <= 60_000
        assert figures["pairs"] == len(load(path, source="from", target="to")["train"])
    if job == "finetune":
        assert 50_000 < (path / "train.tsv").stat().st_size <= 60_020
        assert figures["texts"] == len(labelled_files.read_labelled(path)["train"]["text"])


def test_texts_of_which_some_are_too_small_for_a_file_stand_in_one_table():
    said = io.StringIO()
    times = {"tokenizer_seconds": 0.5, "tokens_seconds": 2.0, "tokens": 3_000_000}
    rows = [{"megabytes": size, "peak_megabytes": 9.0, "start_megabytes": 5.0, **times} for size in (5, 100)]
    rows[1]["token_file_megabytes"] = 71.0
    show(rows, Console(file=said, width=200))
    first, second = [line.split("│")[1:-1] for line in said.getvalue().splitlines() if " MB │" in line]
    assert [cell.strip() for cell in first] == ["5 MB", "3.0 M", "", "9 MB", "5 MB", "0.5 s", "2.0 s", "2.5"]
    assert [cell.strip() for cell in second][2] == "71 MB"


@pytest.mark.parametrize("job", ["bert", "translate", "finetune"])
def test_only_gpt_has_a_choice_of_tokenizers(job):
    with pytest.raises(InputError, match="--tokenizer character is for --job gpt"):
        MemorySettings(job=job, tokenizer="character").validate()
