import pytest
import torch
from helpers_pieces import assert_near, assert_same_with_gradients, leaves
from torch import nn

from minitransformer import Additive, InputError, Location, Multiplicative
from minitransformer.recurrent import Local, RecurrentAttention

QUERY_DIM, MEMORY_DIM = 3, 4
# All real, padded on the right, on the left, in the middle; and nothing real at all.
VALID = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], dtype=torch.bool
)


# Each kind with its score as a formula of one query and one state, which stands at `place` among the real ones.
def additive():
    ours = Additive(QUERY_DIM, MEMORY_DIM, 6)
    nn.init.normal_(ours.v)
    w, u = ours.project_query, ours.project_key
    return ours, lambda query, state, place: ours.v @ torch.tanh(w.weight @ query + u.weight @ state)


def general():
    ours = Multiplicative(QUERY_DIM, MEMORY_DIM)
    return ours, lambda query, state, place: query @ ours.project_key.weight @ state


def dot():
    return Multiplicative(MEMORY_DIM, MEMORY_DIM, weighted=False), lambda query, state, place: query @ state


def location():
    ours = Location(QUERY_DIM, 7)
    return ours, lambda query, state, place: (ours.score.weight @ query + ours.score.bias)[place]


every_kind = pytest.mark.parametrize("build", [additive, general, dot, location])


def inputs(build, targets=2):
    """Queries and states; what padding holds would show in any result that it reached."""
    query, states = leaves((len(VALID), targets, MEMORY_DIM if build is dot else QUERY_DIM), (*VALID.shape, MEMORY_DIM))
    with torch.no_grad():
        states[~VALID] = 1e6
    return query, states


@every_kind
def test_the_context_is_the_mean_of_real_states_weighted_by_the_softmax_of_their_scores(build):
    ours, score = build()
    ours.double()
    query, states = inputs(build)
    expected = []
    for row, real in enumerate(VALID):
        for now in query[row]:
            context = torch.zeros(MEMORY_DIM, dtype=torch.float64)
            if real.any():
                scores = [score(now, state, place) for place, state in enumerate(states[row, real])]
                exponentials = torch.stack(scores).exp()
                context = exponentials / exponentials.sum() @ states[row, real]
            expected.append(context)
    expected = torch.stack(expected).view(len(VALID), -1, MEMORY_DIM)
    # Anomaly mode fails on a NaN that appears on the way back, even if it is multiplied away later.
    with torch.autograd.set_detect_anomaly(True):
        output = ours(query, ours.keys(states), states, VALID)
        assert_same_with_gradients(output, expected, [(p, p) for p in (query, states, *ours.parameters())])


def test_untrained_additive_attention_reads_all_real_states_alike_and_learns():
    ours = Additive(QUERY_DIM, MEMORY_DIM, 6).double()
    query, states = inputs(additive)
    means = torch.stack([states[row, real].mean(dim=0) for row, real in enumerate(VALID[:-1])])
    output = ours(query, ours.keys(states), states, VALID)[:-1]
    assert_near(output, means[:, None].expand_as(output), 1e-12)
    output.square().sum().backward()
    assert ours.v.grad.all()


def test_dot_attention_needs_equal_sizes():
    with pytest.raises(InputError, match=r"query_dim=3 and memory_dim=4: use general attention"):
        Multiplicative(3, 4, weighted=False)


def test_an_attention_without_scores_says_so():
    class Silent(RecurrentAttention):
        pass

    states = torch.zeros(1, 2, 3)
    with pytest.raises(TypeError, match="Silent does not say how it scores"):
        Silent()(states, states, states, torch.ones(1, 2, dtype=torch.bool))


# Local attention


def local(predictive, window):
    ours = Local(general()[0], QUERY_DIM, window, predictive=predictive).double()
    if predictive:
        nn.init.normal_(ours.v, std=3.0)
        nn.init.normal_(ours.project.weight)
    return ours


# Lengths 5, 2, 3, 3 and 0, padded here and there; the first query is the second target.
@pytest.mark.parametrize("window", [1, 2, 10])
@pytest.mark.parametrize("predictive", [False, True], ids=["local-m", "local-p"])
def test_local_attention_follows_its_equations(predictive, window):
    ours = local(predictive, window)
    query, states = inputs(general, targets=4)
    expected, cut = [], 0
    for row, real in enumerate(VALID):
        source = states[row, real]
        for t, now in enumerate(query[row], 1):
            place = len(source) * torch.sigmoid(ours.v @ torch.tanh(ours.project.weight @ now)) if predictive else t
            inside = [s for s in range(len(source)) if place - window <= s <= place + window]
            cut += len(source) - len(inside)
            context = torch.zeros(MEMORY_DIM, dtype=torch.float64)
            exponentials = {s: torch.exp(now @ ours.scorer.project_key.weight @ source[s]) for s in inside}
            for s, exponential in exponentials.items():
                weight = exponential / sum(exponentials.values())
                if predictive:
                    weight = weight * torch.exp(-((s - place) ** 2) / (2 * (window / 2) ** 2))
                context = context + weight * source[s]
            expected.append(context)
    assert (cut > 0) == (window < 10)
    expected = torch.stack(expected).view(len(VALID), -1, MEMORY_DIM)  # zeros where the window has left the source
    output = ours(query, ours.keys(states), states, VALID, position=1)
    assert_same_with_gradients(output, expected, [(p, p) for p in (query, states, *ours.parameters())])


def test_untrained_local_attention_looks_at_the_middle_of_the_real_source():
    ours = Local(general()[0], QUERY_DIM, 2, predictive=True).double()
    centre = ours.centre(inputs(general)[0], VALID)
    assert centre.tolist() == [[length / 2] * 2 for length in VALID.sum(dim=1).tolist()]


def test_a_window_is_at_least_one_token():
    with pytest.raises(InputError, match="window=0 must be at least 1"):
        Local(general()[0], QUERY_DIM, 0, predictive=False)
