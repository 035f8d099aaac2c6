"""BERT against transformers' BERT, RoBERTa and ALBERT, and what its configurations promise."""

import pytest
import torch
import torch.nn.functional as F
from helpers_bert import CASES, batch, gradients_by_their_names, ours_of, saved, their_outputs, theirs_of
from helpers_models import layout
from safetensors.torch import load_file

from minitransformer import BERT, InputError


@pytest.mark.parametrize("holes", [False, True], ids=["padded at the end", "padded anywhere"])
@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_equal_those_of_transformers(case, holes, tmp_path):
    theirs = theirs_of(case)
    ours = BERT.from_pretrained(saved(theirs, tmp_path / "theirs"))
    assert ours.num_parameters() == theirs.num_parameters()
    ids, valid, segments = batch(ours, holes=holes)
    expected = their_outputs(theirs, ids, valid, segments)
    states = ours(ids, valid, segments)
    results = [(ours.predict_tokens(states[valid]), expected[0][valid])]
    if expected[1] is not None:
        results.append((ours.predict_sentence(states), expected[1]))
    for mine, other in results:
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
        upstream = torch.randn_like(mine)
        (mine * upstream).sum().backward(retain_graph=True)
        (other * upstream).sum().backward(retain_graph=True)
    gradients = gradients_by_their_names(ours, tmp_path / "gradients")
    assert len(gradients) == len(load_file(tmp_path / "theirs" / "model.safetensors"))
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, theirs.get_parameter(name).grad, rtol=1e-4, atol=1e-4)


def test_valid_and_segments_have_the_usual_defaults():
    model = ours_of("RoBERTa")
    ids, valid, segments = batch(model)
    assert torch.equal(model(ids), model(ids, valid, segments))
    assert torch.equal(model.encode(ids).valid, valid)


# Padding

VARIANTS = {
    **{case: (case, {}) for case in ("BERT", "RoBERTa", "ALBERT")},
    "rotary, pre-norm": ("BERT", {"positions": "rotary", "pre_norm": True, "norm": "rmsnorm", "qk_norm": True}),
    "grouped": ("BERT", {"num_heads": 6, "num_kv_heads": 2, "bias": False, "activation": "swiglu"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_never_changes_the_result(variant):
    case, options = VARIANTS[variant]
    model = ours_of(case, **options)
    valid = layout([9, 4, 6, 1])
    ids = torch.randint(5, 13, valid.shape)
    segments = torch.randint(model.config.num_segments, valid.shape)
    states = model(ids, valid, segments)
    for row, real in enumerate(valid):
        alone = model(ids[row, real][None], None, segments[row, real][None])
        torch.testing.assert_close(states[row, real], alone[0], rtol=0, atol=1e-5)
        if model.config.pooler:
            torch.testing.assert_close(model.pool(states, valid)[row], model.pool(alone)[0], rtol=0, atol=1e-5)


def training_batch(model, *, where="mixed", labels=True):
    valid = layout([9, 4, 6, 1], where)
    ids = torch.randint(5, 13, valid.shape)
    targets = torch.where(valid & (torch.rand(valid.shape) < 0.4), ids, -100)
    targets[0, valid[0]] = torch.tensor([-100, 7] + [-100] * 7)
    segments = torch.randint(model.config.num_segments, valid.shape)
    made = {"ids": ids, "valid": valid, "targets": targets, "segment_ids": segments}
    return made | {"sentence_labels": torch.tensor([0, 1, 1, 0])} if labels else made


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_the_cross_entropy_of_all_logits_where_there_are_targets(variant, labels):
    case, options = VARIANTS[variant]
    model = ours_of(case, **options)
    name = model.config.sentence_head
    labels = labels and name is not None
    made = training_batch(model, labels=labels)
    losses = model.loss(made)
    assert losses.keys() == {"mlm", *[name] * labels}

    states = model(made["ids"], made["valid"], made["segment_ids"])
    logits = model.predict_tokens(states).flatten(0, 1)
    expected = {"mlm": F.cross_entropy(logits, made["targets"].flatten(), reduction="sum")}
    if labels:
        logits = model.predict_sentence(states, made["valid"])
        expected[name] = F.cross_entropy(logits, made["sentence_labels"], reduction="sum")
    for key, loss in losses.items():
        torch.testing.assert_close(loss.total, expected[key], rtol=1e-5, atol=1e-5)
    counts = {key: int(loss.count) for key, loss in losses.items()}
    assert counts == {key: int(count) for key, count in model.count_targets(made).items()}
    assert counts == {"mlm": int((made["targets"] >= 0).sum()), **({name: 4} if labels else {})}

    parameters = [p for p in model.parameters() if p.requires_grad]
    mine = torch.autograd.grad(sum(loss.total for loss in losses.values()), parameters, allow_unused=True)
    other = torch.autograd.grad(sum(expected.values()), parameters, allow_unused=True)
    for one, two in zip(mine, other, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_logits_are_computed_at_targets_only():
    model, sizes = ours_of(), []
    model.masked_head.register_forward_hook(lambda _, args, output: sizes.append(len(output)))
    made = training_batch(model)
    model.loss(made)
    assert sizes == [int((made["targets"] >= 0).sum())]


def test_a_batch_without_targets_has_a_loss_of_zero_and_gradients():
    model = ours_of()
    made = training_batch(model, labels=False)
    loss = model.loss(made | {"targets": torch.full_like(made["targets"], -100)})["mlm"]
    assert (float(loss.total.detach()), int(loss.count)) == (0.0, 0)
    loss.total.backward()
    assert not model.embedding.weight.grad.any()


def test_a_missing_head_says_so():
    model = ours_of(pooler=False, sentence_head=None, masked_head=False)
    states = model(torch.tensor([[2, 5, 3]]))
    for call, says in [
        (model.predict_tokens, "masked_head=False"),
        (model.predict_sentence, "sentence_head=None"),
        (model.pool, "pooler=False"),
    ]:
        with pytest.raises(InputError, match=says):
            call(states)


def test_a_text_longer_than_the_model_is_refused():
    with pytest.raises(InputError, match="17 tokens are more than the model's max_length=16"):
        ours_of()(torch.full((1, 17), 5))
    assert ours_of(positions="rotary", num_heads=2)(torch.full((1, 17), 5)).shape == (1, 17, 12)
