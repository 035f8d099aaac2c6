"""Captions of scenes, by soft and hard attention."""

import itertools

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers_applications import run

from minitransformer import greedy
from train.applications import image_captioning, scenes
from train.applications.image_captioning import CaptionConfig, CaptionWriter, Written
from train.applications.scenes import CELL, LONGEST, SIDE, TEST, WORDS, middle_of_digits, new_eye, split
from train.applications.writer import BOS, EOS, PAD, until_end

D = 4


@pytest.fixture
def digits(monkeypatch):
    """Made-up ones: strokes whose places depend on the label."""
    labels = np.arange(20) % 10
    images = np.zeros((20, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[6:22, 6 + label] = image[8 + label, 6:22] = 255
    kinds = {"image": datasets.Array2D((28, 28), "uint8"), "label": datasets.ClassLabel(names=list("0123456789"))}
    rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=datasets.Features(kinds))
    made = datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), rows))
    monkeypatch.setattr(scenes, "load", lambda name: made)
    return middle_of_digits()["train"]


def writer(attention="soft", **options):
    torch.manual_seed(0)
    return CaptionWriter(CaptionConfig(D, attention, **options)).eval()


def rows_of(digits, held_out, seed=0):
    torch.manual_seed(0)
    return split(*digits, held_out, new_eye(D).eval(), seed)


def test_a_tiny_run_learns_and_draws(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "VALIDATION", 16)
    monkeypatch.setattr(scenes, "TEST", 16)
    flags = ["--steps", "6", "--scenes", "64", "--d-model", "8", "--eye-steps", "2", "--evaluations", "2"]
    run(image_captioning, tmp_path / "run", *flags, rivals=2)


def test_captions_say_what_is_in_the_picture_and_boxes_hold_the_objects(digits):
    rows = rows_of(digits, [True] * 20 + [False] * 20, seed=5)
    for image, ids, boxes, held_out in zip(*(rows[k] for k in ("images", "ids", "boxes", "held_out")), strict=True):
        _, _, shape, *relation, _, digit = [WORDS[number] for number in until_end(ids.tolist())]
        assert ((scenes.DIGITS.index(digit) + scenes.SHAPES.index(shape)) % 5 == 0) == held_out
        inside = boxes.any(dim=0).view(SIDE, SIDE).repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
        assert (image[~inside] < 64).all()
        (y0, x0), (y1, x1) = (box.view(SIDE, SIDE).nonzero().float().mean(dim=0) for box in boxes)
        far = {"left": x1 - x0, "right": x0 - x1, "above": y1 - y0, "below": y0 - y1}
        assert max(far, key=far.get) == relation[0]
    assert TEST % 2 == 0 and WORDS[rows["ids"][0, rows["nouns"][0, 1]]] in scenes.DIGITS


@pytest.mark.parametrize("attention", ["soft", "mean"])
def test_the_decoder_is_the_papers_equations(digits, attention):
    model, rows = writer(attention).double(), rows_of(digits, [False] * 3)
    inputs = rows["inputs"].double()
    lstm = torch.nn.LSTMCell(2 * D, D).double()
    lstm.load_state_dict(model.rnn.cells[0].state_dict())
    steps = model.steps(inputs, rows["ids"])
    for row, (seen, ids) in enumerate(zip(inputs, rows["ids"], strict=True)):
        places = [row + column for row in model.rows_and_columns[0] for column in model.rows_and_columns[1]]
        cells = seen + torch.stack(places)
        mean = cells.mean(dim=0)
        h, c = torch.tanh(model.first_state(mean)).split(D)
        word = torch.zeros(D, dtype=torch.float64)
        for time in range(LONGEST):
            if attention == "soft":
                layers = model.attention
                keys = torch.stack([layers.project_query(h) + layers.project_key(cell) for cell in cells])
                alpha = (torch.tanh(keys) @ layers.v).softmax(dim=0)
                context = sum(weight * cell for weight, cell in zip(alpha, cells, strict=True))
                torch.testing.assert_close(steps.attention[row, time], alpha)
            else:
                context = mean + model.mix(mean)
            z = torch.sigmoid(model.gate(h)) * context
            h, c = lstm(torch.cat([word, z])[None], (h[None], c[None]))
            h, c = h[0], c[0]
            logits = model.output(torch.tanh(model.from_state(h) + word + model.from_context(z)))
            torch.testing.assert_close(steps.logits[row, time], logits)
            word = model.words(ids[time])


@pytest.mark.parametrize("attention", ["soft", "hard", "mean"])
def test_a_cached_step_equals_the_whole_forward_pass_and_rows_are_independent(digits, attention):
    model, rows = writer(attention), rows_of(digits, [False] * 3)
    logits = model(rows["inputs"], rows["ids"])
    torch.testing.assert_close(model(rows["inputs"][1:2], rows["ids"][1:2]), logits[1:2])
    stepped, state = model.start(rows["inputs"], max_new_tokens=LONGEST)
    chosen = torch.tensor([2, 0])
    state, stepped = state.select(chosen), stepped[chosen]
    for place in range(4):
        torch.testing.assert_close(stepped, logits[chosen, place])
        stepped, state = model.step(rows["ids"][chosen, place], state)
    assert greedy(model, rows["inputs"], max_new_tokens=3).shape == (3, 3)


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_padding_changes_neither_loss_nor_gradients(digits, attention):
    """In training: α of padded steps is in neither regularizer. Dropout and places are not drawn here."""
    model, rows = writer(attention), rows_of(digits, [False] * 3)
    model.training = True
    found = []
    for padding in (0, 3):
        model.baseline.fill_(2.0)
        torch.manual_seed(next(seed for seed in itertools.count() if is_soft_batch(seed)))
        loss = model.loss({"inputs": rows["inputs"], "ids": F.pad(rows["ids"], (0, padding), value=PAD)})["ids"]
        found.append([loss.total.detach(), loss.count, *torch.autograd.grad(loss.total, list(model.parameters()))])
    torch.testing.assert_close(found[0], found[1])


def is_soft_batch(seed):
    torch.manual_seed(seed)
    return bool(torch.rand(()) < 0.5)


def four_cells(requires_grad=False):
    cells = torch.randn(1, 4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return cells.requires_grad_(requires_grad)


def hard_caption(model, cells, places):
    """Steps and cost of a caption of two words, whose cells are read at the given places."""
    left = iter(places)
    ids = torch.tensor([[5, EOS]])
    first = tuple(torch.full((1, D), value, dtype=torch.float64) for value in (0.3, -0.2))
    state = Written(cells, model.attention.keys(cells), first)
    one_hot = torch.eye(4, dtype=torch.float64)
    steps, _ = model.look_and_write(torch.tensor([[BOS, 5]]), state, lambda alpha: one_hot[next(left)][None])
    return steps, F.cross_entropy(steps.logits.mT, ids, reduction="none").sum(dim=1)


def test_the_gradient_of_hard_attention_is_that_of_the_expected_cost(monkeypatch):
    """Over all 16 pairs of places, whatever the baseline."""
    monkeypatch.setattr(image_captioning, "REWARD", 1.0)
    monkeypatch.setattr(image_captioning, "ENTROPY", 0.0)
    model, cells = writer("hard").double(), four_cells()
    is_word = torch.ones(1, 2, dtype=torch.bool)
    trained = [*model.attention.parameters(), *model.rnn.parameters(), *model.gate.parameters()]
    expected_cost, surrogate = torch.zeros(()), torch.zeros(())
    for places in itertools.product(range(4), repeat=2):
        steps, cost = hard_caption(model, cells, places)
        probability = steps.attention[0, 0, places[0]] * steps.attention[0, 1, places[1]]
        expected_cost = expected_cost + probability * cost.sum()
        model.baseline.fill_(0.7)
        loss = cost.sum() + model.regularizer(steps, cost.detach(), is_word)
        assert model.baseline.item() == pytest.approx(0.9 * 0.7 + 0.1 * cost.item())
        surrogate = surrogate + probability.detach() * loss
    wanted = torch.autograd.grad(expected_cost, trained, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(surrogate, trained), wanted, rtol=1e-9, atol=1e-12)


def test_second_gradients_of_hard_attention_with_given_places():
    model = writer("hard").double()

    def loss(cells):
        model.baseline.fill_(0.7)
        steps, cost = hard_caption(model, cells, (2, 1))
        return cost.sum() + model.regularizer(steps, cost.detach() * 0 + 1.0, torch.ones(1, 2, dtype=torch.bool))

    cells = four_cells(requires_grad=True)
    assert torch.autograd.gradgradcheck(loss, cells)


def test_hard_attention_reads_one_cell_and_in_training_sometimes_all():
    model, alpha = writer("hard"), torch.tensor([[0.1, 0.6, 0.3]])
    assert model.glimpse()(alpha).tolist() == [[0, 1, 0]]
    model.train()
    torch.manual_seed(0)
    read = torch.cat([model.glimpse()(alpha) for _ in range(400)])
    whole = (read == alpha).all(dim=1)
    assert 150 < whole.sum() < 250
    torch.testing.assert_close(read[~whole].mean(dim=0), alpha[0], atol=0.12, rtol=0)
    assert (read[~whole].max(dim=1).values == 1).all()


def test_a_cell_sees_20_pixels_around_its_middle():
    torch.manual_seed(0)
    eye, pixels = new_eye(16).eval(), torch.rand(1, 1, 40, 40, requires_grad=True)
    seen = torch.autograd.grad(eye(pixels)[0, :, 5, 5].sum(), pixels)[0][0, 0].nonzero()
    assert seen.min() >= 22 - 10 and seen.max() < 22 + 10
