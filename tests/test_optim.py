import math

import numpy as np
import pytest
import torch
from torch import nn

from minitransformer import (
    BERT,
    GPT,
    BERTConfig,
    GPTConfig,
    InputError,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
)
from minitransformer.learning_rate import SCHEDULES, learning_rate, set_learning_rate
from minitransformer.optim import (
    Muon,
    adamw,
    clip_gradients,
    layer_heights,
    layer_scales,
    muon,
    orthogonal,
    parameter_groups,
)


def test_weight_decay_falls_on_matrices_only():
    model = Transformer(TransformerConfig(9, 9, 8, 2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1))
    decayed, kept = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    options = adamw(model, lr=0.1).defaults
    assert (options["betas"], options["eps"]) == ((0.9, 0.98), 1e-9)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("embedding" not in names[id(p)] and p.dim() == 2 for p in decayed["params"])
    assert {names[id(p)] for p in kept["params"]} == {
        name for name, p in model.named_parameters() if p.dim() < 2 or "embedding" in name
    }
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_linearly_to_its_peak(schedule):
    rates = [learning_rate(schedule, 2.0, step=step, progress=0.0, warmup_steps=4) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.55, 0.19, 0.1]),
        ("cosine", [1, 0.55, 0.1 + 0.45 * (1 + math.cos(0.9 * math.pi)), 0.1]),
        ("wsd", [1, 1, 0.55, 0.1]),
    ],
)
def test_schedules_fall_to_their_final_share(schedule, expected):
    rates = [learning_rate(schedule, 1.0, step=10, progress=progress, final=0.1) for progress in (0.0, 0.5, 0.9, 1.0)]
    assert rates == pytest.approx(expected)


def test_noam_is_the_papers():
    peak = (512 * 4000) ** -0.5
    for step in (1, 100, 4000, 4001, 100_000):
        paper = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert learning_rate("noam", peak, step=step, progress=0.5, warmup_steps=4000) == pytest.approx(paper)


def test_an_unknown_schedule_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"'triangle'.*cosine"):
        learning_rate("triangle", 1.0, step=1, progress=0.0)


def test_clipping_keeps_the_direction_and_bounds_the_length():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], None) == 5.0
    assert parameter.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([parameter], 1.0) == 5.0
    assert math.isclose(parameter.grad.norm().item(), 1.0, rel_tol=1e-5)
    torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]))


def test_muon_equals_torchs_on_every_shape_at_once():
    """Torch's runs in bfloat16: 0.05 is what that leaves of an update whose entries are near 1."""
    torch.manual_seed(0)
    shapes = [(12, 5), (5, 12), (8, 8), (8, 8), (7, 9)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    options = {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.9, "ns_steps": 4}
    for rule in ("match_rms_adamw", "original"):
        pairs = Muon(ours, adjust_lr_fn=rule, **options), torch.optim.Muon(theirs, adjust_lr_fn=rule, **options)
        for _ in range(3):
            for mine, other in zip(ours, theirs, strict=True):
                mine.grad = torch.randn_like(mine)
                other.grad = mine.grad.clone()
            for optimizer in pairs:
                optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0.05)


@pytest.mark.parametrize("columns", [6, 11, 12, 40])
def test_muons_iterations_are_the_polynomial_of_the_gram_matrix(columns):
    torch.manual_seed(0)
    matrices = torch.randn(3, 6, columns)
    matrices[1, 0] = matrices[1, 1]  # a singular value of 0
    a, b, c = coefficients = (3.4445, -4.7750, 2.0315)
    expected = matrices.double() / matrices.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = expected @ expected.mT
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    torch.testing.assert_close(orthogonal(matrices, coefficients, 5, 1e-7), expected.float(), rtol=0, atol=1e-4)
    no_steps = orthogonal(matrices, coefficients, 0, 1e-7)
    torch.testing.assert_close(no_steps, matrices / matrices.norm(dim=(1, 2), keepdim=True))


def test_muon_plus_is_the_formula_of_the_paper_on_every_shape():
    """Norm_row(Norm_col(O)) of Zhang et al. 2026 with the norm of O, in float64; columns along the shorter side."""
    torch.manual_seed(0)
    options = {"lr": 0.1, "weight_decay": 0.0}
    shapes = [(12, 5), (5, 12), (8, 8), (12, 5)]
    plain, even = ([nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
    for one, other in zip(plain, even, strict=True):
        one.grad = other.grad = torch.randn_like(one) * torch.rand(one.shape[1])
    Muon(plain, **options).step()
    Muon(even, normalize=True, **options).step()
    for one, other in zip(plain, even, strict=True):
        update = one.detach().double().numpy()
        wide = update if update.shape[0] <= update.shape[1] else update.T
        columns = wide / np.sqrt((wide**2).sum(axis=0))
        rows = columns / np.sqrt((columns**2).sum(axis=1))[:, None]
        expected = rows * np.sqrt((wide**2).sum()) / np.sqrt((rows**2).sum())
        found = other.detach().double().numpy()
        np.testing.assert_allclose(found if wide is update else found.T, expected, atol=1e-6)


def test_muon_plus_leaves_zeros_alone():
    parameter = nn.Parameter(torch.ones(3, 4))
    parameter.grad = torch.zeros(3, 4)
    Muon([parameter], normalize=True, lr=0.1, weight_decay=0.0).step()
    assert torch.equal(parameter, torch.ones(3, 4))


def tiny_gpt(**options):
    sizes = {"vocab_size": 9, "max_length": 8, "d_model": 8, "num_heads": 2, "num_layers": 2, "eos_id": 0}
    return GPT(GPTConfig(**sizes | options, dropout=0.0))


def test_muon_takes_the_matrices_inside_blocks_and_adamw_the_rest():
    model = tiny_gpt(tie_output=False)
    optimizer = muon(model, lr=0.01, weight_decay=0.1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    grouped = [{names[p] for p in group["params"]} for group in optimizer.param_groups]
    assert grouped[0] == {n for n, p in model.named_parameters() if ".layers." in n and p.dim() == 2}
    assert grouped[1] == {"output.weight"}
    assert set.union(*grouped) == set(names.values())
    assert sum(map(len, grouped)) == len(names)


def test_joined_optimizers_step_as_each_alone_and_share_their_state():
    torch.manual_seed(0)
    model, twin = tiny_gpt(), tiny_gpt()
    twin.load_state_dict(model.state_dict())
    joined = muon(model, lr=0.01)
    hidden = [p for n, p in twin.named_parameters() if ".layers." in n and p.dim() == 2]
    alone = (
        Muon(hidden, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        adamw(twin, lr=0.01, exclude=hidden),
    )
    ids = torch.randint(9, (3, 6))
    for _ in range(2):
        set_learning_rate(joined, 0.02)
        for optimizer in alone:
            set_learning_rate(optimizer, 0.02)
        for some in (model, twin):
            some.loss({"ids": ids})["lm"].total.backward()
        joined.step()
        joined.zero_grad()
        for optimizer in alone:
            optimizer.step()
            optimizer.zero_grad()
    for (name, mine), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other), name
        assert joined.state[mine].keys() & {"momentum_buffer", "exp_avg"}
        assert mine.grad is None


def test_muon_refuses_a_model_without_blocks():
    with pytest.raises(InputError, match="a Linear has no matrices inside blocks for Muon: take adamw"):
        muon(nn.Linear(2, 2), lr=0.1)


def tiny_classifier():
    return SequenceClassifier(tiny_gpt(num_layers=3), 2, pooling="attention")


def test_layers_are_counted_from_the_embeddings_to_the_head():
    heights = layer_heights(model := tiny_classifier())
    for name, parameter in model.named_parameters():
        place = name.removeprefix("encoder.decoder.layers.")
        expected = int(place[0]) + 1 if place != name else 0 if "embedding" in name else 4
        assert heights[parameter] == expected, name


def test_a_block_that_stands_in_several_places_counts_as_the_last_of_them():
    config = BERTConfig(vocab_size=9, d_model=8, num_heads=2, num_layers=4, num_hidden_groups=2, max_length=8,
                        cls_id=2, sep_id=3, mask_id=4)  # fmt: skip
    model = SequenceClassifier(BERT(config), 2)
    heights = layer_heights(model)
    first, second = model.encoder.encoder.layers[0], model.encoder.encoder.layers[3]
    assert {heights[p] for p in first.parameters()} == {2}
    assert {heights[p] for p in second.parameters()} == {4}


def test_a_step_under_layerwise_decay_is_that_of_each_layers_own_rate():
    # The first step of Adam is as long as the rate, whatever the gradient.
    model = tiny_classifier()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, lr=1.0, weight_decay=0.0, scales=layer_scales(model, 0.5))
    set_learning_rate(optimizer, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    heights = layer_heights(model)
    for name, parameter in model.named_parameters():
        expected = before[name] - 0.1 * 0.5 ** (4 - heights[parameter])
        torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-6)


def test_layers_of_a_model_without_one_stack_of_blocks_are_refused():
    with pytest.raises(InputError, match="a Transformer has 2"):
        layer_scales(Transformer(TransformerConfig(9, 9, 8, 2, num_encoder_layers=1, num_decoder_layers=1)), 0.5)
