"""What both encoder-decoders promise: one decoding protocol, indifference to padding, a loss that adds up."""

import pytest
import torch
import torch.nn.functional as F
from helpers_models import (
    A_FEW_MODELS,
    EVERY_MODEL,
    assert_close,
    batch_of,
    built,
    gradients,
    layout,
    padded,
    sources,
    step_logits,
    targets,
)

from minitransformer import InputError, Loss

pytestmark = pytest.mark.usefixtures("as_users_run_it")

every_model = pytest.mark.parametrize("build", EVERY_MODEL)
a_few_models = pytest.mark.parametrize("build", A_FEW_MODELS)


@every_model
@torch.no_grad()
def test_logits_step_by_step_equal_one_pass(build):
    model, valid = built(build), layout([2, 1, 3])
    source, target = padded(model, sources(model, 2, 1, 3), valid), targets(model, 3, 3)
    assert_close(step_logits(model, source, valid, target[:, 1:]), model(source, target, valid))


@every_model
@torch.no_grad()
def test_a_batch_equals_each_row_alone_whatever_the_padding(build):
    model, lengths = built(build), [3, 2]
    rows, target, valid = sources(model, *lengths), targets(model, 2, 2), layout(lengths)
    logits = model(padded(model, rows, valid), target, valid)
    for row, ids, together in zip(rows, target, logits, strict=True):
        assert_close(together, model(row[None], ids[None])[0])


@every_model
@torch.no_grad()
def test_selected_rows_decode_as_a_batch_of_those_rows(build):
    model, valid = built(build), layout([2, 1, 3])
    source, target = padded(model, sources(model, 2, 1, 3), valid), targets(model, 3, 2)
    _, state = model.start(source, valid, max_new_tokens=4)
    _, state = model.step(target[:, 1], state)

    # Row 0 twice, on different ways from here; row 1 dropped; the order changed.
    rows, following = torch.tensor([2, 0, 0]), torch.tensor([[4, 5], [6, 7], [8, 1]])
    selected, collected = state.select(rows), []
    for ids in following.unbind(dim=1):
        logits, selected = model.step(ids, selected)
        collected.append(logits)
    expected = model(source[rows], torch.cat([target[rows], following], dim=1), valid[rows])
    assert_close(torch.stack(collected, dim=1), expected[:, 2:])

    # The state that was selected from is unchanged.
    ids = torch.tensor([5, 1, 4])
    logits, _ = model.step(ids, state)
    assert_close(logits, model(source, torch.cat([target, ids[:, None]], dim=1), valid)[:, -1])


@a_few_models
def test_a_source_without_a_real_token_is_nothing_whatever_stands_in_it(build):
    model = build()
    valid = torch.tensor([[True, True], [False, False], [False, False]])
    source, target = torch.tensor([[4, 5], [6, 7], [8, 1]]), targets(model, 1, 3).repeat(3, 1)
    logits = model(source, target, valid)
    assert_close(logits[1], logits[2], tolerance=1e-6)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


@a_few_models
def test_without_source_valid_every_token_is_real(build):
    model = build()
    source, target = torch.zeros(2, 3, dtype=torch.long), targets(model, 2, 3)  # of pad ids alone
    assert torch.equal(model(source, target), model(source, target, torch.ones(2, 3, dtype=torch.bool)))
    assert model.encode(source).valid.all()


@a_few_models
def test_dropout_acts_in_training_and_never_in_evaluation(build):
    model, twin = build(dropout=0.5), build(dropout=0.0)
    [row], target = sources(model, 4), targets(model, 1, 4)
    assert torch.equal(model(row[None], target), twin(row[None], target))
    model.train()
    assert not torch.equal(model(row[None], target), model(row[None], target))


@a_few_models
def test_a_source_beyond_max_length_is_refused_with_both_numbers(build):
    model = build(max_length=5)
    [longest, longer] = sources(model, 5, 6)
    model.start(longest[None], max_new_tokens=2)
    refusal = pytest.raises(InputError, match=r"source of 6 tokens .* max_length=5")
    with refusal:
        model.start(longer[None], max_new_tokens=2)
    with refusal:
        model(longer[None], targets(model, 1, 2))


@pytest.mark.parametrize("pad_id", [0, 8])
@a_few_models
def test_loss_is_the_summed_cross_entropy_of_real_targets(build, pad_id):
    model = build(pad_id=pad_id)
    batch = batch_of(model, target_lengths=(4, 2, 6))
    logits = model(batch["source_ids"], batch["target_ids"][:, :-1], batch["source_valid"])
    log_probabilities = logits.log_softmax(dim=-1)
    total = sum(
        -log_probabilities[row, t, batch["target_ids"][row, t + 1]]
        for row, length in enumerate((4, 2, 6))
        for t in range(length - 1)
    )
    loss = model.loss(batch)
    assert set(loss) == {"lm"}
    assert isinstance(loss["lm"], Loss)
    assert_close(loss["lm"].total, total)
    for mode in (True, False):
        assert model.train(mode).count_targets(batch)["lm"] == model.loss(batch)["lm"].count == 3 + 1 + 5


@a_few_models
def test_label_smoothing_is_a_mix_of_the_target_and_the_whole_vocabulary_while_training(build):
    epsilon = 0.3
    model, plain = build(label_smoothing=epsilon, dropout=0.0), build(dropout=0.0)
    batch = batch_of(model)
    ids = batch["target_ids"]
    assert torch.equal(model.loss(batch)["lm"].total, plain.loss(batch)["lm"].total)

    log_probabilities = model(batch["source_ids"], ids[:, :-1], batch["source_valid"]).log_softmax(dim=-1)
    wanted = (1 - epsilon) * F.one_hot(ids[:, 1:], model.config.target_vocab_size)
    wanted = wanted + epsilon / model.config.target_vocab_size
    total = -(wanted * log_probabilities).sum(dim=-1)[ids[:, 1:] != model.config.pad_id].sum()
    loss = model.train().loss(batch)["lm"]
    assert_close(loss.total, total)
    assert loss.count == plain.loss(batch)["lm"].count
