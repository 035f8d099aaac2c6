"""Codes of digits: PCA, linear and non-linear auto-encoders."""

import datasets
import numpy as np
import pytest
import torch
from helpers_applications import refusal, run

from train.applications import autoencoder
from train.applications.autoencoder import (
    PIXELS,
    SIDE,
    STOPS,
    Autoencoder,
    AutoencoderConfig,
    digit_images,
    mean_error,
    principal_components,
    reconstructed,
    walk,
)


def drawn(*_):
    """In place of the corpus: bars whose place is the digit, and whose grey value varies."""
    images, labels = np.zeros((60, SIDE, SIDE), dtype=np.uint8), np.arange(60) % 10
    for row, label in enumerate(labels):
        images[row, 2 + 2 * label : 6 + 2 * label, 4:24] = 100 + 2 * row
    kinds = {"image": datasets.Array2D((SIDE, SIDE), "uint8"), "label": datasets.ClassLabel(names=list("0123456789"))}
    rows = datasets.Dataset.from_dict({"image": images, "label": labels}, features=datasets.Features(kinds))
    parts = {"train": range(40), "validation": range(40, 50), "test": range(50, 60)}
    return datasets.DatasetDict({name: rows.select(part) for name, part in parts.items()})


@pytest.fixture(autouse=True)
def drawn_digits(monkeypatch):
    monkeypatch.setattr(autoencoder, "load", drawn)


def small(*, linear, code_size=2, seed=0):
    torch.manual_seed(seed)
    return Autoencoder(AutoencoderConfig(code_size, 12, 6, linear)).double().eval()


def train_images():
    return digit_images()["train"]["images"].double()


def test_a_tiny_run_trains_all_rivals_and_draws(tmp_path):
    flags = ["--steps", "6", "--evaluations", "2", "--wide", "8", "--narrow", "4", "--lr", "0.01", "--batch-size", "16"]
    rows = run(autoencoder, tmp_path / "run", *flags)
    assert list(rows) == ["non-linear to 2", "linear to 2", "non-linear to 4", "linear to 4", "PCA to 2", "PCA to 4"]
    assert rows["linear to 2"]["parameters"] == rows["non-linear to 2"]["parameters"]
    assert rows["PCA to 4"]["test"]["of PCA's"] == 1


@pytest.mark.parametrize("size", [1, 2, 4])
def test_pca_leaves_the_smallest_singular_values(size):
    images = train_images() + 0.1 * torch.rand(40, PIXELS, generator=torch.Generator().manual_seed(0))
    pca = principal_components(images, size)
    torch.testing.assert_close(pca.directions.T @ pca.directions, torch.eye(size).double())
    left, singular, right = np.linalg.svd((images - images.mean(dim=0)).numpy(), full_matrices=False)
    best = (left[:, :size] * singular[:size]) @ right[:size]
    torch.testing.assert_close(reconstructed(pca, images), images.mean(dim=0) + torch.from_numpy(best))
    assert mean_error(pca, images) == pytest.approx((singular[size:] ** 2).sum() / images.numel())
    assert (pca.encode(images).var(dim=0).diff() <= 0).all()


@pytest.mark.parametrize("linear", [True, False])
def test_the_network_is_its_equation(linear):
    model, images = small(linear=linear), train_images()[:3]
    parts = [part for part in (*model.encoder, *model.decoder) if isinstance(part, torch.nn.Linear)]
    assert [part.out_features for part in parts] == [12, 6, 2, 6, 12, PIXELS]
    for image, found in zip(images, model(images), strict=True):
        for place, part in enumerate(parts):
            image = torch.stack([row @ image for row in part.weight]) + part.bias
            if not linear and place not in (2, 5):  # neither the code nor the image is bent
                image = image * 0.5 * (1 + torch.erf(image / 2**0.5))
        torch.testing.assert_close(found, image)


def test_a_linear_network_with_the_directions_of_pca_is_pca():
    images, model = train_images(), small(linear=True)
    pca = principal_components(images, 2)
    with torch.no_grad():
        for part in (*model.encoder, *model.decoder):
            if isinstance(part, torch.nn.Linear):
                torch.nn.init.eye_(part.weight)
                part.bias.zero_()
        model.encoder[0].weight[:2] = pca.directions.T
        model.encoder[0].bias[:2] = -pca.mean @ pca.directions
        model.decoder[-1].weight[:, :2] = pca.directions
        model.decoder[-1].bias.copy_(pca.mean)
    torch.testing.assert_close(reconstructed(model, images), reconstructed(pca, images))
    torch.testing.assert_close(model.encode(images), pca.encode(images))


def test_a_walk_is_straight_and_even_between_two_middles():
    codes, labels = torch.tensor([[0.0, 0], [1, 0], [9, 0], [1, 8], [5, 5]]), torch.tensor([3, 3, 3, 7, 1])
    stops = walk(codes, labels, (3, 7))
    assert stops.shape == (STOPS, 2)
    torch.testing.assert_close(stops[[0, -1]], torch.tensor([[1.0, 0], [1, 8]]))
    torch.testing.assert_close(stops.diff(dim=0), torch.tensor([[0.0, 1.0]]).expand(STOPS - 1, 2))


def test_layers_narrower_than_a_code_are_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    assert "--narrow 3 must be at least 4" in refusal(autoencoder.main, "--narrow 3", folder, capsys)
