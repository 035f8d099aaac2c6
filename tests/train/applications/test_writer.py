"""Models that write ids, and how often all of the ids are right."""

import pytest
import torch
from helpers_applications import Echo, EchoConfig, echo_rows

from minitransformer import InputError, beam_search
from train.applications.writer import BOS, EOS, PAD, exact_match, ids_before, until_end, written


def echo():
    torch.manual_seed(0)
    return Echo(EchoConfig(4))


def test_a_size_below_one_is_refused():
    with pytest.raises(InputError, match="size"):
        EchoConfig(0)


def test_ids_are_shifted_behind_bos_and_cut_at_their_end():
    ids = torch.tensor([[5, 4, EOS, PAD], [6, EOS, PAD, PAD]])
    assert ids_before(ids).tolist() == [[BOS, 5, 4, EOS], [BOS, 6, EOS, PAD]]
    assert [until_end(row) for row in (*ids.tolist(), [7, 8])] == [[5, 4], [6], [7, 8]]
    assert exact_match([[5, 4], [6, 6]], ids) == 0.5


def test_a_step_equals_the_whole_forward_pass_of_its_row():
    model, rows = echo(), echo_rows()
    logits = model(rows["inputs"], rows["ids"])
    chosen = torch.tensor([5, 2, 2])
    stepped, state = model.start(rows["inputs"], max_new_tokens=3)
    stepped, state = stepped[chosen], state.select(chosen)
    for place in range(3):
        torch.testing.assert_close(stepped, logits[chosen, place])
        stepped, state = model.step(rows["ids"][chosen, place], state)


def test_what_is_written_is_greedy_or_the_best_of_a_beam():
    model, inputs = echo(), echo_rows()["inputs"]
    greedily, widely = (written(model, inputs, 3, beam_size) for beam_size in (1, 5))
    assert not model.training
    for beam_size, found in ((1, greedily), (5, widely)):
        beams = beam_search(model, inputs, max_new_tokens=3, beam_size=beam_size, alpha=0.0)
        assert [until_end(best.ids) for best, *_ in beams] == found
    assert greedily != widely


def test_padding_changes_neither_the_loss_nor_its_count():
    model, rows = echo(), echo_rows()
    longer = rows | {"ids": torch.nn.functional.pad(rows["ids"], (0, 3), value=PAD)}
    torch.testing.assert_close(model.loss(longer)["ids"], model.loss(rows)["ids"])
    assert model.count_targets(longer)["ids"] == model.count_targets(rows)["ids"] == 16 * 3
