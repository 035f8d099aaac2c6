import pytest
import torch
from helpers_pieces import few_examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from minitransformer import record_attention
from minitransformer.models.pooling import POOLINGS, AttentionPooling

every_pooling = pytest.mark.parametrize("name", POOLINGS)


def made(name, d_model=4):
    """A pooling with no parameter at a special value, in float64."""
    pooling = (AttentionPooling(d_model) if name == "attention" else POOLINGS[name]()).double()
    for parameter in pooling.parameters():
        nn.init.normal_(parameter)
    return pooling


def by_hand(name, pooling, rows):
    """What a text of these states (T, D) pools to, from the definition: zeros if it has none."""
    if not len(rows):
        return rows.new_zeros(rows.shape[1])
    if name in ("first", "last"):
        return rows[0 if name == "first" else -1]
    if name == "max":
        return torch.stack([max(column) for column in rows.T])
    if name == "mean":
        return sum(rows) / len(rows)
    w, b, u = pooling.project_key.weight, pooling.project_key.bias, pooling.query
    exponentials = [torch.exp(u @ torch.tanh(w @ row + b)) for row in rows]
    return sum(e * row for e, row in zip(exponentials, rows, strict=True)) / sum(exponentials)


@st.composite
def layouts(draw):
    """Which slots hold real tokens: up to 4 rows, padded at will."""
    width = draw(st.integers(1, 6))
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=4)))


@every_pooling
@few_examples
@given(valid=layouts())
def test_pooling_is_its_definition_over_the_real_tokens_wherever_they_stand(name, valid):
    pooling = made(name)
    states = torch.randn(*valid.shape, 4, dtype=torch.float64)
    expected = torch.stack([by_hand(name, pooling, row[real]) for row, real in zip(states, valid, strict=True)])
    torch.testing.assert_close(pooling(states, valid), expected, rtol=0, atol=1e-10)


@every_pooling
@few_examples
@given(valid=layouts())
@pytest.mark.parametrize("noise", [1e300, float("inf"), float("nan")])
def test_what_padding_holds_changes_neither_result_nor_gradient(name, noise, valid):
    pooling = made(name)
    states = torch.randn(*valid.shape, 4, dtype=torch.float64)
    noisy = states.masked_fill(~valid[:, :, None], noise)
    results = []
    for each in (states.requires_grad_(), noisy.requires_grad_()):
        pooled = pooling(each, valid)
        results.append((pooled, *torch.autograd.grad(pooled.square().sum(), [each, *pooling.parameters()])))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert one.isfinite().all()
    assert not results[0][1][~valid].any()


def test_the_weights_of_attention_pooling_are_recorded_and_give_the_result():
    pooling = made("attention")
    states = torch.randn(2, 3, 4, dtype=torch.float64)
    valid = torch.tensor([[True, False, True], [True, True, True]])
    model = nn.ModuleDict({"pooling": pooling})
    with record_attention(model) as maps:
        pooled = pooling(states, valid)
    assert list(maps) == ["pooling"]
    assert maps["pooling"].shape == (2, 1, 1, 3)
    torch.testing.assert_close(pooled, (maps["pooling"][:, 0] @ states)[:, 0])


def test_untrained_attention_pooling_is_the_mean_and_learns():
    pooling, states, valid = AttentionPooling(4), torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    pooled = pooling(states, valid)
    torch.testing.assert_close(pooled, states.mean(dim=1))
    pooled.square().sum().backward()
    assert pooling.query.grad.abs().min() > 0
