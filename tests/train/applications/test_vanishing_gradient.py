"""The gradient of the last state with respect to the first, and the networks that copy."""

from dataclasses import replace

import pytest
import torch
from helpers_applications import refusal, run

from train.applications import vanishing_gradient
from train.applications.vanishing_gradient import (
    LENGTH,
    LETTERS,
    NOISE,
    RECALL,
    Copier,
    CopierConfig,
    as_large_as,
    gradient,
    gradient_norm,
    scores,
    strings_and_noise,
)


def copier(cell="tanh", *, attention=False):
    torch.manual_seed(0)
    return Copier(CopierConfig(cell, 3, 4, noise=10, attention=attention)).double().eval()


def some_ids(steps=9):
    return torch.randint(RECALL + 1, (2, steps), generator=torch.Generator().manual_seed(1))


def test_a_tiny_run_trains_and_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(vanishing_gradient, "STEPS", (10, 20))
    flags = ["--steps", "4", "--evaluations", "2", "--noise", "10", "--d-model", "4", "--hidden-size", "8"]
    rows = run(vanishing_gradient, tmp_path / "run", *flags, "--lr", "0.05", rivals=2)
    assert list(rows) == ["attention", "LSTM"]
    assert all(0 <= row["test"]["copied"] <= 1 for row in rows.values())


def test_no_string_is_in_two_splits_and_noise_is_no_letter():
    splits = strings_and_noise(7)
    strings = {name: {tuple(row) for row in rows["ids"][:, :LENGTH].tolist()} for name, rows in splits.items()}
    assert [len(strings[name]) for name in ("test", "validation", "train")] == [1000, 1000, LETTERS**LENGTH - 2000]
    assert len(set.union(*strings.values())) == LETTERS**LENGTH
    noise = splits["train"]["ids"][:, LENGTH:]
    assert noise.shape[1] == 7 and noise.unique().tolist() == list(NOISE)


def test_the_tanh_cell_is_torchs_rnn():
    model, ids = copier(), some_ids()
    rnn = torch.nn.RNN(3, 4, batch_first=True).double()
    rnn.load_state_dict({f"{name}_l0": value for name, value in model.cell.state_dict().items()})
    states, (last,) = model.step_by_step(ids, model.first_state(2))
    torch.testing.assert_close(states, rnn(model.letters(ids))[0])
    torch.testing.assert_close(states[:, -1], last)


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_the_gradient_is_the_product_of_the_gradients_of_all_steps(cell):
    model, ids = copier(cell), some_ids()
    found = gradient(model, ids)
    for row, some in zip(found, ids.split(1), strict=True):
        state = torch.cat(model.step_by_step(some[:, :1], model.first_state(1))[1], dim=1)[0].detach()
        product = torch.eye(len(state)).double()

        def step(state, ids):
            return torch.cat(model.step_by_step(ids, tuple(state[None].split(4, dim=1)))[1], dim=1)[0]

        for one in some[:, 1:].split(1, dim=1):
            factor = torch.autograd.functional.jacobian(lambda state, one=one: step(state, one), state)
            state = step(state, one).detach()
            if cell == "tanh":
                torch.testing.assert_close(factor, torch.diag(1 - state**2) @ model.cell.weight_hh.detach())
            product = factor @ product
        torch.testing.assert_close(row, product[:4])  # h_T alone, also of an LSTM


def test_the_gradient_through_trained_attention_equals_central_differences():
    model, ids = copier(attention=True), some_ids()
    torch.nn.init.normal_(model.attention.v)
    found = gradient(model, ids)
    with torch.no_grad():
        _, (first,) = model.step_by_step(ids[:, :1], model.first_state(2))

        def last(state):
            states, _ = model.step_by_step(ids[:, 1:], (state,))
            return model.features(torch.cat([state[:, None], states], dim=1), 1)[:, 0]

        for place, change in enumerate(1e-5 * torch.eye(4).double()):
            slope = (last(first + change) - last(first - change)) / 2e-5
            torch.testing.assert_close(found[..., place], slope, atol=1e-8, rtol=1e-6)


def test_the_gradient_of_a_tanh_rnn_falls_exponentially_and_that_of_attention_does_not():
    for attention in (False, True):
        model = copier(attention=attention)
        at_100, at_200 = (gradient_norm(model, steps) for steps in (100, 200))
        assert (at_200 > 0.4 * at_100) == attention and (at_200 < at_100**1.5) != attention


def test_rivals_have_as_many_parameters_as_attention_or_a_unit_less():
    config = CopierConfig("tanh", 5, 16, 100, attention=True)
    most = Copier(config).num_parameters()
    for cell in ("tanh", "gru", "lstm"):
        rival = as_large_as(config, cell)
        larger = replace(rival, hidden_size=rival.hidden_size + 1)
        assert Copier(rival).num_parameters() <= most < Copier(larger).num_parameters()
        assert not rival.attention


def test_noise_behind_a_models_own_is_not_read_and_a_right_copy_scores_1():
    model, ids = copier("gru", attention=True), strings_and_noise(20)["test"]["ids"][:8]
    torch.testing.assert_close(model(ids), model(ids[:, : LENGTH + 10]))
    assert not torch.equal(model(ids), model(ids.index_fill(1, torch.tensor(LENGTH + 9), NOISE.start)))
    model.forward = lambda ids: 50.0 * torch.nn.functional.one_hot(ids[:, :LENGTH], LETTERS)
    assert scores(model, {"ids": ids}) == {"copied": 1.0, "loss": pytest.approx(0, abs=1e-6)}


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_recurrent_matrices_start_orthogonal_and_gates_keep_the_state_for_1_to_noise_steps(cell):
    model = copier(cell).float()
    for weight in model.cell.weight_hh.detach().split(4):
        torch.testing.assert_close(weight @ weight.T, torch.eye(4))
    gates = model.cell.bias_ih.detach().sigmoid().split(4)
    steps = torch.tensor([1.0, 4, 7, 10])
    if cell != "tanh":
        torch.testing.assert_close(gates[1], steps / (steps + 1))
    if cell == "lstm":
        torch.testing.assert_close(gates[0], 1 / (steps + 1))


def test_sizes_too_small_for_the_rivals_are_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    assert "--noise 9 must be at least 10" in refusal(vanishing_gradient.main, "--noise 9", folder, capsys)
    assert "--hidden-size 3 must be at least 4" in refusal(vanishing_gradient.main, "--hidden-size 3", folder, capsys)
