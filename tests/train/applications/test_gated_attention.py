"""Gates at words: the equations, the fallback, the penalty, a tiny run."""

import datasets
import jaxtyping
import pytest
import torch
from helpers_applications import run
from torch.autograd import gradcheck, gradgradcheck

from minitransformer.attention_maps import record_attention
from train.applications import gated_attention
from train.applications.gated_attention import (
    GatedReader,
    GatedReaderConfig,
    Gates,
    Sentences,
    encoded,
    figures,
    frequent_words,
    opened,
    relaxed_log_gates,
)

TEXTS = ["A dull, dull film.", "A gorgeous film!", "Dull and long .", "Gorgeous, and short; a film to see", "-", ""] * 2


def reader(**options):
    torch.manual_seed(0)
    model = GatedReader(GatedReaderConfig(**{"vocab_size": 12, "d_model": 6, "hidden_size": 4} | options)).eval()
    torch.nn.init.normal_(model.attention.v)
    return model


def batch():
    ids = torch.randint(2, 12, (3, 5))
    valid = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    return ids.masked_fill(~valid, 0), valid


def test_a_tiny_run_learns_and_shows_what_was_read(tmp_path, monkeypatch, capsys):
    split = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1, 0, 1] * 2})
    monkeypatch.setattr(gated_attention, "load", lambda name: dict.fromkeys(("train", "validation", "test"), split))
    flags = ["--steps", "8", "--d-model", "6", "--evaluations", "2", "--lr", "0.03"]
    run(gated_attention, tmp_path / "run", *flags, rivals=1)
    assert "gorgeous" in capsys.readouterr().out


def test_attention_is_softmax_of_e_plus_log_g_also_in_a_loop():
    model, (ids, valid) = reader().double(), batch()
    vectors = model.words(ids)
    gates = Gates(torch.rand(3, 5).double().log(), valid, torch.zeros(3, dtype=torch.bool))
    with record_attention(model) as maps:
        model.read(vectors, gates, valid)
    query = torch.ones(3, 1, 1).double()
    scores = model.attention.scores(query, model.attention.keys(vectors), valid)[:, 0]
    for row, length in enumerate([5, 3, 1]):
        parts = [gates.log[row, t].exp() * scores[row, t].exp() for t in range(length)]
        expected = torch.stack([*[part / sum(parts) for part in parts], *[parts[0] * 0] * (5 - length)])
        torch.testing.assert_close(maps["attention"][row, 0, 0], expected)


def test_closed_gates_are_the_limit_of_small_ones_and_open_ones_are_soft_attention():
    (ids, valid), learned, soft = batch(), reader(), reader(gates="open")
    soft.load_state_dict({name: value for name, value in learned.state_dict().items() if name in soft.state_dict()})
    learned.gate.bias.data.fill_(1000.0)
    assert torch.equal(learned(ids, valid), soft(ids, valid))
    some = valid & (torch.arange(5) != 0) | (valid.sum(dim=1) == 1)[:, None] & valid
    none_closed = torch.zeros(3, dtype=torch.bool)
    hard = learned.read(learned.words(ids), Gates(None, some, none_closed), valid)
    small = learned.read(learned.words(ids), Gates(some.float().clamp(min=1e-30).log(), valid, none_closed), valid)
    torch.testing.assert_close(hard, small)
    # What a closed gate hides changes nothing.
    other = torch.where(some, ids, (ids + 1) % 12)
    torch.testing.assert_close(learned.read(learned.words(other), Gates(None, some, none_closed), valid), hard)


@pytest.mark.parametrize("gates", ["learned", "open"])
def test_padding_changes_nothing(gates):
    model, (ids, valid) = reader(gates=gates), batch()
    together = model(ids, valid)
    for row, length in enumerate([5, 3, 1]):
        alone = model(ids[row : row + 1, :length], valid[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_relaxed_gates_are_the_gumbel_softmax_of_two_classes_with_two_gradients():
    torch.manual_seed(0)
    logits, gumbels = torch.randn(2, 4).double(), -torch.log(-torch.log(torch.rand(2, 2, 4).double()))
    p = torch.sigmoid(logits)
    softmax = ((torch.stack([(1 - p).log(), p.log()]) + gumbels) / 0.7).softmax(dim=0)[1]
    uniform = torch.sigmoid(gumbels[1] - gumbels[0])
    torch.testing.assert_close(relaxed_log_gates(logits, uniform, 0.7), softmax.log())
    inputs = logits.requires_grad_()
    assert gradcheck(lambda x: relaxed_log_gates(x, uniform, 0.7), inputs)
    assert gradgradcheck(lambda x: relaxed_log_gates(x, uniform, 0.7), inputs)


def test_of_a_sentence_whose_gates_are_all_closed_the_likeliest_opens_and_is_counted():
    valid = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    gates = opened(torch.tensor([[1.0, -1.0, 2.0], [-3.0, -2.0, 9.0], [1.0, 1.0, 1.0]]), valid)
    assert gates.open.tolist() == [[True, False, True], [False, True, False], [False, False, False]]
    assert gates.all_closed.tolist() == [False, True, True]


def test_only_the_share_of_open_gates_above_the_density_is_paid_for():
    (ids, valid), labels = batch(), torch.tensor([0, 1, 1])
    rows = {"ids": ids, "valid": valid, "labels": labels}
    losses = {}
    for penalty in (0.0, 2.0):
        model = reader(density=0.25, penalty=penalty, dropout=0.0).train()
        torch.manual_seed(0)
        model.gate.weight.data.zero_()
        model.gate.bias.data.zero_()  # p = 1/2
        losses[penalty] = model.loss(rows)["label"].total.item()
    assert losses[2.0] - losses[0.0] == pytest.approx(3 * 2.0 * 0.25, abs=1e-5)


def test_random_gates_are_open_as_often_as_asked_and_the_same_at_every_reading():
    model, valid = reader(gates="random", density=0.3), torch.ones(200, 50, dtype=torch.bool)
    _, gates = model.see(valid.long(), valid)
    assert gates.open.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(gates.open, model.see(valid.long(), valid)[1].open)
    model.train()
    assert not torch.equal(gates.open, model.see(valid.long(), valid)[1].open)


def test_density_is_a_share_of_words_and_all_closed_a_share_of_sentences():
    (ids, valid), labels = batch(), torch.tensor([0, 1, 1])
    model = reader()
    model.gate.weight.data.zero_()
    model.gate.bias.data.fill_(-1.0)
    found = figures(model, {"ids": ids, "valid": valid, "labels": labels})
    assert found["density"] == pytest.approx(3 / 9) and found["all closed"] == 1.0
    guess = model(ids, valid).argmax(dim=1)
    assert found["accuracy"] == pytest.approx((guess == labels).float().mean().item())


def test_batches_hold_every_sentence_once_without_columns_of_padding():
    rows = encoded(TEXTS, [0, 1, 0, 1, 0, 1] * 2, frequent_words(TEXTS))
    data = Sentences(rows, batch_size=4, seed=1)
    batches = data.epoch(0)
    assert sorted(row for batch in batches for row in batch) == list(range(12))
    for batch in map(data.batch, batches):
        assert batch["valid"].any(dim=0).all() and batch["ids"].shape == batch["valid"].shape


def test_unknown_gates_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    with pytest.raises(ValueError, match="gates='shut' must be one of"):
        GatedReaderConfig(12, 6, gates="shut")
