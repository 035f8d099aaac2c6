import math
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from helpers_models import (
    A_FEW_MODELS,
    EOS,
    PAD,
    Scripted,
    assert_close,
    built,
    choose_eos,
    layout,
    likeliest,
    padded,
    sources,
    tiny_transformer,
    until,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer import InputError, beam_search, greedy, record_attention, sample, stream
from minitransformer.decodable import Decodable

a_few_models = pytest.mark.parametrize("build", A_FEW_MODELS)


def test_a_row_ends_in_eos_and_is_padded_while_others_go_on():
    model = Scripted([4, EOS, 5, 6, 5], [EOS, 4, EOS, 4, 4], [5, 6, 4, EOS, 6])
    ids = greedy(model, torch.zeros(3, 2, dtype=torch.long), max_new_tokens=5)
    assert ids.tolist() == [[4, EOS, PAD, PAD], [EOS, PAD, PAD, PAD], [5, 6, 4, EOS]]
    # Nothing is asked after the last row has ended, and rows that have ended hear padding.
    assert model.heard == [[4, EOS, 5], [EOS, PAD, 6], [PAD, PAD, 4]]


@pytest.mark.parametrize("max_new_tokens", [1, 2, 3])
def test_no_row_is_longer_than_max_new_tokens(max_new_tokens):
    model = Scripted([4, 5, 6, 4], [4, 4, 4, 4])
    ids = greedy(model, torch.zeros(2, 2, dtype=torch.long), max_new_tokens=max_new_tokens)
    assert ids.tolist() == [[4, 5, 6][:max_new_tokens], [4, 4, 4][:max_new_tokens]]
    assert len(model.heard) == max_new_tokens - 1


def test_the_model_starts_with_what_greedy_was_given():
    model, inputs, valid = Scripted([EOS]), torch.tensor([[1, 2]]), torch.tensor([[True, False]])
    greedy(model, inputs, valid, max_new_tokens=9)
    assert model.started_with[0] is inputs
    assert model.started_with[1] is valid
    assert model.started_with[2] == 9


@pytest.mark.parametrize("max_new_tokens", [0, -3])
def test_less_than_one_new_token_is_refused(max_new_tokens):
    with pytest.raises(InputError, match=f"max_new_tokens={max_new_tokens} "):
        greedy(Scripted([EOS]), torch.tensor([[1, 2]]), max_new_tokens=max_new_tokens)


def writer(build, seed=0):
    """A model, rows of source and what it writes about each without a cache."""
    is_transformer = build.func is tiny_transformer
    model = build(seed=seed, pad_id=8, **({"tie_output": False} if is_transformer else {}))
    with torch.no_grad():
        if is_transformer:
            # As it starts it knows best what it just read: make that the token after it, or it says one thing for ever.
            model.init_weights()
            model.output.weight.copy_(model.target_embedding.weight.roll(1, dims=0))
            model.output.weight += 0.3 * torch.randn_like(model.output.weight)
        else:
            model.output.weight *= 3
    rows = sources(model, *[3] * 6)
    texts = likeliest(model, rows, 4)
    choose_eos(model, texts)
    return model, rows, [until(model.config.eos_id, text) for text in texts]


@a_few_models
def test_greedy_is_the_likeliest_token_of_the_whole_model_run_anew_at_each_step(build):
    written = []
    for seed in range(3):
        model, rows, texts = writer(build, seed)
        valid = layout([len(row) for row in rows])
        ids = greedy(model, padded(model, rows, valid), valid, max_new_tokens=4)
        width = max(len(text) for text in texts)
        assert ids.tolist() == [text + [8] * (width - len(text)) for text in texts]
        written += [(text[-1] == model.config.eos_id, *text) for text in texts]
    # Otherwise this would show less than it says.
    assert {ended for ended, *_ in written} == {True, False}
    assert len(set(written)) > 3


@a_few_models
def test_a_batch_writes_what_each_row_writes_alone(build):
    model = built(build)

    @settings(max_examples=5, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    def check(lengths):
        rows, valid = sources(model, *lengths), layout(lengths)
        together = greedy(model, padded(model, rows, valid), valid, max_new_tokens=3)
        for row, ids in zip(rows, together, strict=True):
            alone = greedy(model, row[None], max_new_tokens=3)[0]
            assert ids.tolist() == alone.tolist() + [model.config.pad_id] * (len(ids) - len(alone))

    check()


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@a_few_models
def test_greedy_leaves_the_mode_and_the_weights_as_they_were(build, mode):
    model, rows = build().train(mode), torch.ones(2, 3, dtype=torch.long)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    greedy(model, rows, max_new_tokens=3)
    assert all(module.training == mode for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@a_few_models
def test_greedy_draws_no_random_number_and_so_repeats_itself(build):
    model, source = build(dropout=0.5), torch.tensor([[4, 5, 6], [7, 1, 0]])
    before = torch.get_rng_state()
    first = greedy(model, source, max_new_tokens=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(greedy(model, source, max_new_tokens=5), first)


@a_few_models
def test_maps_recorded_under_greedy_are_those_of_teacher_forcing(build):
    model, rows, _ = writer(build)
    valid = layout([len(row) for row in rows])
    source = padded(model, rows, valid)
    with record_attention(model) as under_greedy:
        ids = greedy(model, source, valid, max_new_tokens=4)
    assert ids.shape[1] > 1
    inputs = torch.cat([torch.full((len(ids), 1), model.config.bos_id), ids[:, :-1]], dim=1)
    with torch.no_grad(), record_attention(model) as forced:
        model(source, inputs, valid)
    assert under_greedy.keys() == forced.keys()
    for path, weights in forced.items():
        assert_close(under_greedy[path], weights)


class Captioner(torch.nn.Module):
    """Writes about inputs of any shape: a decoder of somebody else's, with no more than the protocol asks."""

    config = SimpleNamespace(eos_id=3, pad_id=0, vocab_size=6)

    class State(NamedTuple):
        seen: torch.Tensor

        def select(self, rows):
            return Captioner.State(self.seen[rows])

    def __init__(self, size):
        super().__init__()
        self.look, self.read = torch.nn.Linear(size, 8), torch.nn.Embedding(6, 8)
        self.write = torch.nn.Linear(8, 6)

    def start(self, inputs, valid=None, *, max_new_tokens):
        seen = self.look(inputs.flatten(1).float()).tanh()
        return 4 * self.write(seen), Captioner.State(seen)

    def step(self, ids, state):
        seen = (state.seen.roll(1, dims=1) + self.read(ids)).tanh()
        return 4 * self.write(seen), Captioner.State(seen)


@pytest.mark.parametrize("shape", [(3, 4, 5), (7, 2), (6,)], ids=["image", "spectrogram", "vector"])
def test_inputs_of_any_shape_are_decoded_row_by_row(shape):
    model, inputs = Captioner(math.prod(shape)), torch.randn(8, *shape)
    assert isinstance(model, Decodable)
    options = {"max_new_tokens": 7, "repetition_penalty": 1.5}
    texts = greedy(model, inputs, **options)
    assert len({*map(tuple, texts.tolist())}) > 2
    assert torch.equal(torch.stack([*stream(model, inputs, **options)], dim=1), texts)
    assert torch.equal(sample(model, inputs, temperature=0.0, **options), texts)
    assert sample(model, inputs, seed=0, **options).shape[0] == 8
    for one, ids in zip(inputs, texts.tolist(), strict=True):
        assert until(3, greedy(model, one[None], **options)[0].tolist()) == until(3, ids)
    together = beam_search(model, inputs, max_new_tokens=5, beam_size=3, n_best=3)
    for one, found in zip(inputs, together, strict=True):
        [alone] = beam_search(model, one[None], max_new_tokens=5, beam_size=3, n_best=3)
        assert [hypothesis.ids for hypothesis in found] == [hypothesis.ids for hypothesis in alone]


def test_pixels_are_no_tokens_that_a_penalty_counts():
    model, pixels = Captioner(24), torch.randint(6, (4, 2, 3, 4))
    options = {"max_new_tokens": 4, "repetition_penalty": 3.0}
    assert torch.equal(greedy(model, pixels, **options), greedy(model, pixels.float(), **options))
