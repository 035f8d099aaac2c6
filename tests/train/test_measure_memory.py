"""What is measured of memory is what the jobs do."""

import pytest

from minitransformer.data import load, remembered
from minitransformer.errors import InputError
from train.made_up_text import write_pairs, write_text
from train.measure_memory import JOBS, MemorySettings


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "LARGE", 0)
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("job", JOBS)
def test_memory_is_measured_of_generated_texts(job, tmp_path):
    path = tmp_path / ("pairs" if job == "translate" else "text.txt")
    (write_pairs if job == "translate" else write_text)(path, 60_000)
    figures = JOBS[job](MemorySettings(job=job, steps=2), path)
    assert figures["tokens"] > 1000
    assert figures["peak_megabytes"] >= figures["prepared_megabytes"] >= figures["start_megabytes"] > 0
    if job == "translate":
        assert 50_000 < sum(file.stat().st_size for file in path.glob("train.*")) <= 60_000
        assert figures["pairs"] == len(load(path, source="from", target="to")["train"])
        assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2


@pytest.mark.parametrize("job", ["bert", "translate"])
def test_only_gpt_has_a_choice_of_tokenizers(job):
    with pytest.raises(InputError, match="--tokenizer character is for --job gpt"):
        MemorySettings(job=job, tokenizer="character").validate()
