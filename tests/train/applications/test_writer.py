"""Models that write ids, and how often all of the ids are right."""

import torch

from minitransformer import beam_search
from train.applications.vector_to_sequence import DateWriter, DateWriterConfig, days_and_dates
from train.applications.writer import BOS, EOS, PAD, exact_match, ids_before, until_end, written


def test_ids_are_shifted_behind_bos_and_cut_at_their_end():
    ids = torch.tensor([[5, 4, EOS, PAD], [6, EOS, PAD, PAD]])
    assert ids_before(ids).tolist() == [[BOS, 5, 4, EOS], [BOS, 6, EOS, PAD]]
    assert [until_end(row) for row in (*ids.tolist(), [7, 8])] == [[5, 4], [6], [7, 8]]
    assert exact_match([[5, 4], [6, 6]], ids) == 0.5


def test_what_is_written_is_greedy_or_the_best_of_a_beam():
    torch.manual_seed(0)
    model, vectors = DateWriter(DateWriterConfig(5, 7)), days_and_dates(10)["test"]["inputs"]
    greedily, widely = (written(model, vectors, 4, beam_size) for beam_size in (1, 5))
    assert not model.training
    for beam_size, found in ((1, greedily), (5, widely)):
        beams = beam_search(model, vectors, max_new_tokens=4, beam_size=beam_size, alpha=0.0)
        assert [until_end(best.ids) for best, *_ in beams] == found
    assert greedily != widely


def test_padding_changes_neither_the_loss_nor_its_count():
    torch.manual_seed(0)
    model, rows = DateWriter(DateWriterConfig(5, 7)), days_and_dates(10)["test"]
    longer = rows | {"ids": torch.nn.functional.pad(rows["ids"], (0, 3), value=PAD)}
    for batch in (rows, longer):
        torch.testing.assert_close(model.loss(batch)["ids"], model.loss(rows)["ids"])
        assert model.count_targets(batch)["ids"] == sum(len(until_end(ids)) + 1 for ids in rows["ids"].tolist())
