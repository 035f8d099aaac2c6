"""The part for a GPU, at its tiny sizes."""

import io

import pytest
import torch
from helpers_models import assert_close, nudged
from rich.console import Console
from transformers import GPT2LMHeadModel

from train.benchmark import gpu
from train.benchmark.gpt import Rival, our_gpt
from train.benchmark.timing import our_loss


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=300)


def test_both_sides_learn_from_the_same_loss(tmp_path):
    sizes = gpu.TINY.of_model(gpu.TINY.context)
    ours, theirs = nudged(our_gpt(**sizes)), Rival(**sizes)
    ours.export(tmp_path)
    theirs.model = GPT2LMHeadModel.from_pretrained(tmp_path)
    ids = torch.randint(gpu.TINY.vocab_size, (3, gpu.TINY.context + 1))
    assert_close(our_loss(ours)({"ids": ids}), gpu.their_loss(theirs)(ids))


def test_training_and_generation_are_timed_beside_the_rival(console):
    card = gpu.Card.measured(32)
    batch_size = gpu.TINY.compiled - 1  # the type checks of the test suite get in the compiler's way
    row = gpu.training(gpu.TINY, batch_size, card, 1, console)
    assert row["speed"].keys() == {"ours", "theirs"} and row["ratios"].keys() == {"ours"}
    for figure in row["speed"].values():
        assert 0 < figure["lowest"] <= figure["median"] <= figure["highest"]
    rows = list(gpu.generation(gpu.TINY, card, 1, console))
    assert [(row["precision"], row["batch"]) for row in rows] == [("bf16", 1), ("bf16", 3), ("fp32", 1), ("fp32", 3)]
    assert all(row["ratio"] > 0 and row["profile"]["matrix products"] > 0 for row in rows)
    assert "times as fast" in console.file.getvalue()


def test_tests_that_passed_failed_and_were_skipped_are_counted_and_failures_named(tmp_path, monkeypatch, console):
    (tmp_path / "tests" / "cuda").mkdir(parents=True)
    tests = "def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): assert 0\n"
    tests += "import pytest\n@pytest.mark.skip\ndef test_d(): pass\n"
    (tmp_path / "tests" / "cuda" / "test_one.py").write_text(tests)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    assert gpu.cuda_tests(console) == {"failed": 2, "passed": 1, "skipped": 1}
    assert "test_one.py::test_b" in console.file.getvalue()
