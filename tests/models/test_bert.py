"""BERT against transformers' BERT, RoBERTa and ALBERT, and what its configurations promise."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers_bert import CASES, batch, nudged, ours_of, pairs, their_outputs, theirs_of
from helpers_models import layout
from safetensors.torch import load_file

import minitransformer
from minitransformer import BERT, BERTConfig, InputError, record_attention


@pytest.mark.parametrize("holes", [False, True], ids=["padded at the end", "padded anywhere"])
@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_equal_those_of_transformers(case, holes):
    theirs, ours = theirs_of(case), ours_of(case)
    with torch.no_grad():
        for mine, others in pairs(ours, theirs):
            mine.copy_(torch.cat(others))
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
    for mine, others in pairs(ours, theirs):
        torch.testing.assert_close(mine.grad, torch.cat([other.grad for other in others]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_has_a_counterpart(case):
    ours, theirs = ours_of(case), theirs_of(case)
    assert ours.num_parameters() == theirs.num_parameters()
    covered = {id(mine) for mine, _ in pairs(ours, theirs)}
    assert covered == {id(parameter) for parameter in ours.parameters()}


def test_valid_and_segments_have_the_usual_defaults():
    model = ours_of("RoBERTa")
    ids, valid, segments = batch(model)
    assert torch.equal(model(ids), model(ids, valid, segments))
    assert torch.equal(model.encode(ids).valid, valid)


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        (BERTConfig.bert_base(), 109_482_240),
        (BERTConfig.bert_large(), 335_141_888),
        (BERTConfig.roberta_base(), 124_645_632),
        (BERTConfig.albert_base(), 11_683_584),
        (BERTConfig.albert_xxlarge(), 222_595_584),
    ],
    ids=["bert_base", "bert_large", "roberta_base", "albert_base", "albert_xxlarge"],
)
def test_presets_have_the_published_number_of_parameters(preset, count):
    with torch.device("meta"):  # published without the heads, with a pooler
        assert BERT(replace(preset, masked_head=False, sentence_head=None, pooler=True)).num_parameters() == count


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


# Shared layers


def with_layers_of_its_own(shared):
    """The same function with a copy of the block in every place."""
    model = BERT(replace(shared.config, num_hidden_groups=None)).eval()
    model.load_state_dict(shared.state_dict())
    return model


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_shared_layers_are_the_sums_over_their_places(groups):
    shared = ours_of("ALBERT", num_hidden_groups=groups)
    own = with_layers_of_its_own(shared)
    made = training_batch(shared)
    for model in (shared, own):
        sum(loss.total for loss in model.loss(made).values()).backward()
    span = 4 // groups
    for group in range(groups):
        places = [dict(own.encoder.layers[group * span + i].named_parameters()) for i in range(span)]
        for name, parameter in shared.encoder.layers[group * span].named_parameters():
            total = sum(place[name].grad for place in places)
            torch.testing.assert_close(parameter.grad, total, rtol=1e-4, atol=1e-4)


def test_shared_layers_have_a_map_each():
    shared = ours_of("ALBERT")
    ids, valid, segments = batch(shared)
    maps = []
    for model in (shared, with_layers_of_its_own(shared)):
        with record_attention(model) as recorded:
            model(ids, valid, segments)
        maps.append(recorded)
    assert list(maps[0]) == [f"encoder.layers.{i}.attention" for i in range(4)]
    for path, weights in maps[1].items():
        torch.testing.assert_close(maps[0][path], weights, rtol=0, atol=1e-6)
    assert not torch.equal(maps[0]["encoder.layers.0.attention"], maps[0]["encoder.layers.3.attention"])


# Saving


@pytest.mark.parametrize("case", CASES)
def test_a_saved_model_comes_back_and_shares_what_it_shared(case, tmp_path):
    model = ours_of(case)
    loaded = minitransformer.load(model.save(tmp_path))
    assert isinstance(loaded, BERT)
    assert loaded.config == model.config
    ids, valid, segments = batch(model)
    assert torch.equal(loaded(ids, valid, segments), model(ids, valid, segments))
    assert loaded.masked_head.output.weight is loaded.embedding.weight
    tensors = load_file(tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == loaded.num_parameters() == model.num_parameters()


# Beginnings


@pytest.mark.parametrize("config", [BERTConfig.tiny(), replace(BERTConfig.tiny(), d_embedding=64, num_hidden_groups=2)])
def test_weights_begin_as_the_docstring_says(config):
    for name, parameter in BERT(config).named_parameters():
        values = parameter.detach()
        if name.endswith("bias"):
            assert not values.any(), name
        elif values.dim() == 1:
            assert (values == 1).all(), name
        else:
            error = 5 / values.numel() ** 0.5  # five standard errors
            assert abs(values.mean()) < 0.02 * error, name
            assert abs(values.std() / 0.02 - 1) < error, name


def test_weights_can_begin_again():
    model = nudged(BERT(BERTConfig.tiny()))
    model.init_weights()
    assert (model.embedding_norm.weight == 1).all()
    assert not model.masked_head.output.bias.any()


def test_with_zero_residual_every_pre_norm_block_starts_as_the_identity():
    model = BERT(replace(BERTConfig.tiny(), pre_norm=True))
    model.init_weights(zero_residual=True)
    states = torch.randn(2, 5, model.config.d_model)
    assert torch.equal(model.encoder(states), model.encoder.final_norm(states))


# What is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_heads": 5}, "d_model=12 is not divisible by num_heads=5"),
        ({"num_layers": 4, "num_hidden_groups": 3}, "num_layers=4 is not divisible by num_hidden_groups=3"),
        ({"num_hidden_groups": 0}, "num_hidden_groups=0 must be at least 1"),
        ({"d_embedding": 0}, "d_embedding=0 must be at least 1"),
        ({"num_segments": 0}, "num_segments=0 must be at least 1"),
        ({"position_offset": -1}, "position_offset=-1 must be at least 0"),
        ({"positions": "alibi"}, "positions='alibi' is none of learned, rotary"),
        ({"positions": "rotary", "num_heads": 4}, "leaves an odd number, 3"),
        ({"sentence_head": "next"}, "sentence_head='next' is none of nsp, sop"),
        ({"pooler": False}, "sentence_head='nsp' reads the pooler"),
        ({"mask_id": 13}, "mask_id=13 is no id in a vocabulary of 13"),
        ({"mask_id": 3}, "mask_id=3 must differ"),
        ({"activation": "tanh"}, "activation='tanh' is none of"),
        ({"dropout": 1.5}, r"dropout=1.5 must be at least 0 and at most 1"),
    ],
)
def test_an_impossible_configuration_is_refused(changes, says):
    with pytest.raises(InputError, match=says):
        ours_of(**changes)


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
