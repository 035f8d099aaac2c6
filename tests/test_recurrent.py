"""Padding in the attention of recurrent models; `models/test_rnn.py` has the equations of the scores."""

import pytest
import torch
from helpers_pieces import assert_near, leaves
from torch import nn

from minitransformer import Additive, InputError, Location, Multiplicative
from minitransformer.recurrent import Local

SIZE = 4
# All real, padded on the right, on the left, in the middle; and nothing real at all.
VALID = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], dtype=torch.bool
)
KINDS = {
    "additive": lambda: Additive(SIZE, SIZE, 6),
    "general": lambda: Multiplicative(SIZE, SIZE),
    "dot": lambda: Multiplicative(SIZE, SIZE, weighted=False),
    "location": lambda: Location(SIZE, 7),
    "local-m": lambda: Local(Multiplicative(SIZE, SIZE), SIZE, 1, predictive=False),
    "local-p": lambda: Local(Multiplicative(SIZE, SIZE), SIZE, 1, predictive=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_source_is_read_as_alone_whatever_its_padding_holds(kind):
    attend = KINDS[kind]().double()
    for parameter in attend.parameters():
        nn.init.normal_(parameter)
    query, states = leaves((len(VALID), 3, SIZE), (*VALID.shape, SIZE))
    with torch.no_grad():
        states[~VALID] = 1e6
    # Anomaly mode fails on a NaN that appears on the way back, even if it is multiplied away later.
    with torch.autograd.set_detect_anomaly(True):
        output = attend(query, attend.keys(states), states, VALID, position=1)
        output.square().sum().backward()
    assert not output[-1].any() and not states.grad[~VALID].any()
    for row, real in enumerate(VALID[:-1]):
        alone = states[row, real][None]
        expected = attend(query[row][None], attend.keys(alone), alone, VALID[:1, : real.sum()], position=1)
        assert_near(output[row], expected[0], 1e-10)


def test_untrained_attention_reads_all_real_states_alike_or_looks_at_the_middle():
    states = torch.randn(1, 5, SIZE)
    everything, local = Additive(SIZE, SIZE, 6), KINDS["local-p"]()
    mean = states.mean(dim=1, keepdim=True)
    assert_near(everything(states[:, :1], everything.keys(states), states, VALID[:1]), mean, 1e-6)
    assert local.centre(states[:, :1].expand(5, 1, SIZE), VALID)[:, 0].tolist() == [2.5, 1, 1.5, 1.5, 0]


def test_impossible_sizes_are_refused():
    with pytest.raises(InputError, match=r"query_dim=3 and memory_dim=4: use general attention"):
        Multiplicative(3, 4, weighted=False)
    with pytest.raises(InputError, match="window=0 must be at least 1"):
        Local(Multiplicative(3, 4), 3, 0, predictive=False)
