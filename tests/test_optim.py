import math

import pytest
import torch
from torch import nn

from minitransformer import InputError, Transformer, TransformerConfig
from minitransformer.optim import SCHEDULES, adamw, clip_gradients, learning_rate, parameter_groups


def test_weight_decay_falls_on_matrices_only():
    model = Transformer(TransformerConfig(9, 9, 8, 2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1))
    decayed, kept = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("embedding" not in names[id(p)] and p.dim() == 2 for p in decayed["params"])
    assert {names[id(p)] for p in kept["params"]} == {
        name for name, p in model.named_parameters() if p.dim() < 2 or "embedding" in name
    }
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_in_no_group():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.1)) == 2


def test_fused_adamw_equals_torchs_plain_loop():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 3), nn.Linear(3, 3)
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    pairs = (
        (ours, adamw(ours, lr=0.01, weight_decay=0.1)),
        (theirs, torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), eps=1e-9, foreach=False, fused=False)),
    )
    x = torch.randn(5, 3)
    for _ in range(3):
        for model, optimizer in pairs:
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_rises_linearly_to_its_peak(schedule):
    rates = [learning_rate(schedule, 2.0, step=step, progress=0.0, warmup_steps=4) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "late", "end"),
    [
        ("constant", 1, 1, 1, 1),
        ("linear", 1, 0.55, 0.19, 0.1),
        ("cosine", 1, 0.55, None, 0.1),
        ("wsd", 1, 1, 0.55, 0.1),
    ],
)
def test_schedules_fall_to_their_final_share(schedule, start, middle, late, end):
    def rate(progress):
        return learning_rate(schedule, 1.0, step=10, progress=progress, final=0.1)

    assert [rate(0.0), rate(0.5), rate(1.0)] == pytest.approx([start, middle, end])
    if late is not None:
        assert rate(0.9) == pytest.approx(late)


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
