"""Position schemes on longer rows: the data, the model, and a tiny comparison."""

import pytest
import torch
from helpers_applications import refusal, run
from torch.nn.functional import pad

from minitransformer.optim import adamw
from train import compare_positions
from train.compare_positions import (
    ComparePositionsSettings,
    Reader,
    ReaderConfig,
    by_pairs,
    columns,
    recall_data,
    right,
)
from train.engine.training_data import Rows

SCHEMES = ("sinusoidal", "learned", "rotary", "alibi", "relative")
TINY = ["--d-model", "8", "--num-heads", "2", "--num-layers", "1", "--rows", "1000", "--pairs", "3", "--lr", "0.1"]


def reader(positions):
    torch.manual_seed(0)
    return Reader(ReaderConfig(positions, d_model=8, num_heads=2, num_layers=2, max_length=30)).eval()


def test_a_tiny_comparison_has_a_row_for_each_scheme_a_column_for_each_length_and_a_picture(tmp_path):
    flags = [*TINY, "--test-pairs", "3,5", "--seeds", "0,1", "--steps", "10", "--evaluations", "2"]
    rows = run(compare_positions, tmp_path / "run", *flags, rivals=2)
    assert tuple(rows) == SCHEMES[:2]
    for row in rows.values():
        assert list(row["test"]) == list(row["spread"]) == ["3 pairs", "5 pairs"]


def test_no_test_row_is_in_training_and_every_row_has_its_answer():
    data = recall_data(ComparePositionsSettings(rows=2000, pairs=2, test_pairs="2,6"))
    seen = {tuple(row) for name in ("train", "validation") for row in data[name]["ids"].tolist()}
    assert not seen & {tuple(row) for row in data["test"]["ids of 2"].tolist()}
    assert data["test"]["ids of 6"].shape == (1000, 2 * 6 + 2)
    assert columns([("a3f7|f", "f7")])["answers"].tolist() == [7]


@pytest.mark.parametrize("positions", SCHEMES)
def test_padding_behind_a_row_changes_nothing_and_the_order_of_its_pairs_does(positions):
    model, ids = reader(positions), columns([("a3f7k0|f", "f7")])["ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(pad(ids, (0, 4))), model(ids))
        assert not torch.allclose(model(columns([("a7f3k0|f", "f3")])["ids"]), model(ids))


def test_rows_of_a_learned_table_beyond_the_longest_training_row_stay_as_they_were():
    model, rows = reader("learned").train(), recall_data(ComparePositionsSettings(rows=100, pairs=3, test_pairs="5"))
    before, optimizer = model.positions.embedding.weight.clone(), adamw(model, lr=0.1)
    for batch in Rows(rows["train"], 20).epoch(0):
        model.loss(Rows(rows["train"], 20).batch(batch))["recall"].total.backward()
        optimizer.step()
    changed = (model.positions.embedding.weight != before).any(dim=1)
    assert changed.tolist() == [True] * 8 + [False] * 22


def test_the_share_of_right_answers_is_counted_for_each_number_of_pairs():
    model, test = reader("alibi"), recall_data(ComparePositionsSettings(rows=100, pairs=3, test_pairs="3,5"))["test"]
    model.forward = lambda ids: torch.eye(10)[torch.full((len(ids),), 4)]
    share = (test["answers of 5"] == 4).float().mean().item()
    assert right(model, test["ids of 5"], test["answers of 5"]) == by_pairs(model, test)["5 pairs"] == share


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--test-pairs 3,27", "--test-pairs 27: whole numbers from 2 to 26"),
        ("--pairs 1", "--pairs 1 must be"),
    ],
)
def test_lengths_that_cannot_be_are_refused(flags, says, tmp_path, capsys):
    assert says in refusal(compare_positions.main, flags, tmp_path / "run", capsys)
