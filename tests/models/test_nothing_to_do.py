"""No rows, no tokens, no targets, no new tokens: every model gives nothing back, and no NaN."""

import pytest
import torch
from helpers_kinds import DECODERS, ENCODER_DECODERS, KINDS, VOCAB, batch_for
from helpers_models import TARGET_VOCAB, assert_close

from minitransformer import InputError, beam_search, greedy, sample, stream

pytestmark = pytest.mark.usefixtures("as_users_run_it")

NOTHING = {
    "no rows": {"rows": 0},
    "no tokens": {"tokens": 0},
    "neither": {"rows": 0, "tokens": 0},
    "one token": {"tokens": 1},
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("name", KINDS)
def test_the_loss_of_nothing_is_a_number(name, nothing, training):
    model, batch = KINDS[name]().train(training), batch_for(name, **NOTHING[nothing])
    for term, loss in model.loss(batch).items():
        assert loss.total.isfinite()
        assert loss.count == model.count_targets(batch)[term]
        assert (loss.total == 0.0) == (loss.count == 0)
        loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("rows", [0, 2])
def test_pairs_of_sentences_without_a_token(rows):
    model, ids = KINDS["bert"](), torch.zeros(rows, 0, dtype=torch.long)
    assert model.predict_sentence(model(ids)).shape == (rows, 2)
    batch = {"ids": ids, "targets": ids, "sentence_labels": torch.zeros(rows, dtype=torch.long)}
    if rows:
        with pytest.raises(InputError, match="sentence_labels of rows without a token"):
            model.loss(batch)
    else:
        assert [loss.total for loss in model.loss(batch).values()] == [0.0, 0.0]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_target_of_bos_alone_has_no_loss(name, length, training):
    model, batch = KINDS[name]().train(training), batch_for(name, target=length)
    [loss] = model.loss(batch).values()
    assert (loss.total, loss.count) == (0.0, 0)
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("name", KINDS)
def test_forward_and_encode_give_as_much_as_they_get(name, nothing):
    model, batch = KINDS[name](), batch_for(name, **NOTHING[nothing])
    if name in ENCODER_DECODERS:
        ids, target = batch["source_ids"], batch["target_ids"]
        assert model(ids, target, batch["source_valid"]).shape[:2] == target.shape
        assert model(ids, target[:, :0]).shape[:2] == (len(ids), 0)
    else:
        ids = batch["ids"]
        output = model(ids)
        assert len(output) == len(ids)
        assert output.isfinite().all()
        assert "classifier" in name or output.shape[1] == ids.shape[1]
    assert len(model.encode(ids).states) == len(ids)


@pytest.mark.parametrize("name", DECODERS)
def test_decoding_of_nothing_is_nothing(name):
    model, ids = KINDS[name](), torch.randint(5, 9, (3, 4))
    for decode in (greedy, sample):
        assert decode(model, ids, max_new_tokens=0).shape == (3, 0)
        assert decode(model, ids[:0], max_new_tokens=5).shape == (0, 0)
    assert list(stream(model, ids, max_new_tokens=0)) == list(stream(model, ids[:0], max_new_tokens=5)) == []
    assert [[found.ids for found in row] for row in beam_search(model, ids, max_new_tokens=0)] == [[[]]] * 3
    assert beam_search(model, ids[:0], max_new_tokens=5) == []
    for rows, new in ((0, 2), (3, 0), (0, 0)):
        assert len(model.start(ids[:rows], max_new_tokens=new)[0]) == rows


@pytest.mark.parametrize("name", DECODERS)
def test_a_step_of_no_rows(name):
    model = KINDS[name]()
    _, state = model.start(torch.randint(5, 9, (3, 4)), max_new_tokens=3)
    logits, _ = model.step(torch.zeros(0, dtype=torch.long), state.select(torch.zeros(0, dtype=torch.long)))
    assert logits.shape == (0, TARGET_VOCAB if name in ENCODER_DECODERS else VOCAB)


@pytest.mark.parametrize("name", DECODERS)
def test_a_source_or_prompt_without_tokens_is_decoded(name):
    model = KINDS[name]()
    empty = torch.zeros(2, 0, dtype=torch.long)
    ids, padding = torch.randint(5, 9, (2, 3)), torch.zeros(2, 3, dtype=torch.bool)
    expected = greedy(model, ids, padding, max_new_tokens=4)
    assert torch.equal(greedy(model, empty, max_new_tokens=4), expected)
    assert len(beam_search(model, empty, max_new_tokens=4)) == 2


@pytest.mark.parametrize("name", DECODERS)
def test_a_row_that_may_have_no_new_token_leaves_the_others_as_they_are(name):
    model, ids = KINDS[name](), torch.randint(5, 9, (4, 5))
    found = beam_search(model, ids, max_new_tokens=torch.tensor([3, 0, 5, 0]))
    assert found[1][0].ids == found[3][0].ids == []
    for row, limit in ((0, 3), (2, 5)):
        [[alone]] = beam_search(model, ids[row : row + 1], max_new_tokens=limit)
        assert found[row][0].ids == alone.ids
        assert_close(found[row][0].score, alone.score)
