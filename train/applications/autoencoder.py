"""Auto-encoder: an image of 784 numbers goes through a code of two, and what comes out shall be the image again.

The talk's latent space. An encoder f makes the code, a decoder g the image, and both learn from the images alone:

    z = f(x) in R^k          x̂ = g(z)          minimise ‖x - x̂‖²          (Rumelhart et al. 1986)

If f and g are linear, however many layers they have, nothing is better than principal component analysis: the best code
of k numbers is where x lies along the k directions of the largest variance (Baldi and Hornik 1989),

    z = Vᵀ(x - μ)            x̂ = μ + V z       V: the first k eigenvectors of the covariance of x

so that PCA is a test of the training. With a non-linearity between the layers the codes need not lie on a flat plane of
the image space any more, and the same number of parameters reconstructs better (Hinton and Salakhutdinov 2006). The
rival of each auto-encoder is the same network without the non-linearity.

The images are 5,000 handwritten digits. With k = 2 the latent plane can be drawn, and a walk through it decoded.

python -m train.applications.autoencoder
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn

from minitransformer.checks import Range
from minitransformer.data import load
from minitransformer.models.base import Config, Loss, Model
from minitransformer.plots import save_figure
from train.applications.rivals import ApplicationSettings, Contest, Size, Split
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

SIDE = 28
PIXELS = SIDE * SIDE
CODES = (2, 4)
"""The sizes k of the codes."""
WALK, STOPS = (1, 0), 9
"""From which digit to which the walk leads, and how many images of it are shown."""

Images = Float[Tensor, "batch 784"]
Codes = Float[Tensor, "batch code"]


@dataclass(frozen=True)
class AutoencoderSettings(ApplicationSettings):
    """Digits through codes of 2 and 4 numbers: non-linear and linear auto-encoders, and PCA."""

    settings_file: ClassVar[str] = "autoencoder.json"

    lr: LearningRate = 3e-3
    wide: Size = 256
    """The width of the encoder's first layer and of the decoder's last one."""
    narrow: Annotated[int, Range(at_least=max(CODES), at_most=4096)] = 64
    """The width of the layers next to the code."""


def main(arguments: list[str] | None = None) -> None:
    run_job(AutoencoderSettings, "applications.autoencoder", compare, arguments)


def compare(settings: AutoencoderSettings, folder: Path, console: Console) -> None:
    data = digit_images()
    exact = {size: principal_components(data["train"]["images"], size) for size in CODES}

    def test(model: "Autoencoder | PCA", rows: Split) -> dict[str, float]:
        error, best = (mean_error(each, rows["images"]) for each in (model, exact[model.code_size]))
        return {"squared error": error, "of PCA's": error / best}

    def autoencoder(size: int, linear: bool) -> "Autoencoder":
        return Autoencoder(AutoencoderConfig(size, settings.wide, settings.narrow, linear))

    Contest(
        rivals={
            f"{'linear' if linear else 'non-linear'} to {size}": partial(autoencoder, size, linear)
            for size in CODES
            for linear in (False, True)
        },
        others={f"PCA to {size}": test(pca, data["test"]) for size, pca in exact.items()},
        data=data,
        evaluate=lambda model, rows: {"loss": mean_error(model, rows["images"])},
        test=test,
        draw=lambda models, rows, path: draw(models, exact, rows, path),
        steps=2000,
        unit="pixels",
    ).run(settings, folder, console)


# The data


def digit_images() -> dict[str, dict[str, Tensor]]:
    """The splits: `images` of values from 0 (black) to 1, row after row, and their `labels`."""
    splits = load("digits").with_format("torch")
    columns = {name: split[:] for name, split in splits.items()}
    return {
        name: {"images": rearrange(rows["image"], "row y x -> row (y x)").float() / 255, "labels": rows["label"]}
        for name, rows in columns.items()
    }


# The models


class PCA(NamedTuple):
    """The best linear code. `directions` V are orthonormal, that of the largest variance first."""

    mean: Float[Tensor, " pixels"]
    directions: Float[Tensor, "pixels code"]

    @property
    def code_size(self) -> int:
        return self.directions.shape[1]

    def encode(self, images: Float[Tensor, "batch pixels"]) -> Codes:
        return (images - self.mean) @ self.directions

    def decode(self, codes: Codes) -> Float[Tensor, "batch pixels"]:
        return self.mean + codes @ self.directions.T


def principal_components(images: Float[Tensor, "batch pixels"], size: int) -> PCA:
    """The eigenvectors of the covariance with the `size` largest eigenvalues."""
    exact = images.double()
    mean = exact.mean(dim=0)
    _, vectors = torch.linalg.eigh((exact - mean).T @ (exact - mean))  # the smallest eigenvalue first
    return PCA(mean.to(images), vectors[:, -size:].flip(dims=[1]).to(images))


@dataclass(frozen=True)
class AutoencoderConfig(Config):
    """`linear`: there is nothing between the layers."""

    code_size: int
    wide: int
    narrow: int
    linear: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("code_size", "wide", "narrow")


class Autoencoder(Model):
    """Three layers to the code, and three from it to the image."""

    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = c = config
        sizes = [PIXELS, c.wide, c.narrow, c.code_size]
        self.encoder = layers(sizes, linear=c.linear)
        self.decoder = layers(sizes[::-1], linear=c.linear)

    @property
    def code_size(self) -> int:
        return self.config.code_size

    def encode(self, images: Images) -> Codes:
        return self.encoder(images)

    def decode(self, codes: Codes) -> Images:
        return self.decoder(codes)

    def forward(self, images: Images) -> Images:
        return self.decode(self.encode(images))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        images = batch["images"]
        return {"pixels": Loss((self(images) - images).square().sum(), self.count_targets(batch)["pixels"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"pixels": torch.full((), batch["images"].numel(), device=batch["images"].device)}


def layers(sizes: list[int], *, linear: bool) -> nn.Sequential:
    """Linear layers with a GELU between two of them. The last one is bare: a code may be any number."""
    between: Any = nn.Identity if linear else nn.GELU
    stack = [part for width, next_width in pairwise(sizes) for part in (nn.Linear(width, next_width), between())]
    return nn.Sequential(*stack[:-1])


# The figures and the picture


@torch.inference_mode()
def mean_error(model: Autoencoder | PCA, images: Float[Tensor, "batch pixels"]) -> float:
    """(x - x̂)², the mean over pixels and images."""
    return (reconstructed(model, images) - images).square().mean().item()


@torch.inference_mode()
def reconstructed(model: Autoencoder | PCA, images: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
    device = model.device if isinstance(model, Autoencoder) else images.device
    return model.decode(model.encode(images.to(device))).cpu()


def walk(codes: Codes, labels: Int[Tensor, " batch"], between: tuple[int, int]) -> Float[Tensor, "stops code"]:
    """Points at equal distances on the line from the middle of one digit's codes to that of another's."""
    first, last = (codes[labels == digit].median(dim=0).values for digit in between)
    return torch.lerp(first, last, torch.linspace(0, 1, STOPS)[:, None])


@torch.inference_mode()
def draw(models: Mapping[str, Autoencoder], exact: Mapping[int, PCA], rows: Split, path: Path) -> None:
    """The latent planes of PCA and of the non-linear auto-encoder, a walk through each, and reconstructions."""
    from matplotlib import color_sequences
    from matplotlib.figure import Figure

    images, labels = rows["images"], rows["labels"]
    figure = Figure(figsize=(14, 5.5), layout="constrained")
    axes = figure.subplot_mosaic([["PCA", "own", "again"], ["PCA walk", "own walk", "again"]], height_ratios=(6, 1))
    for name, title, model in (
        ("PCA", "The plane of PCA", exact[2]),
        ("own", "The latent plane of the auto-encoder", models["non-linear to 2"]),
    ):
        codes = model.encode(images)
        for digit, colour in zip(range(10), color_sequences["tab10"], strict=True):
            across, up = codes[labels == digit].T
            axes[name].scatter(across, up, marker=f"${digit}$", s=40, linewidths=0, color=colour)
        stops = walk(codes, labels, WALK)
        axes[name].plot(stops[:, 0], stops[:, 1], color="black", marker="o", markersize=4)
        axes[name].set(title=title, xticks=[], yticks=[])
        show(axes[f"{name} walk"], model.decode(stops), columns=STOPS)
        axes[f"{name} walk"].set_title(f"the walk from {WALK[0]} to {WALK[1]}, decoded", fontsize=10)
    some = torch.stack([images[labels == digit][0] for digit in labels.unique()])
    shown = {"image": some}
    for size in CODES:
        shown[f"PCA to {size}"] = reconstructed(exact[size], some)
        shown[f"non-linear to {size}"] = reconstructed(models[f"non-linear to {size}"], some)
    show(axes["again"], torch.cat(list(shown.values())), columns=len(some))
    axes["again"].set_yticks([SIDE * (row + 0.5) for row in range(len(shown))], list(shown))
    axes["again"].set_title("Test images, and what is left of them")
    save_figure(figure, path)


def show(axes: Any, images: Images, *, columns: int) -> None:
    """Images side by side, in rows."""
    tiles = rearrange(images, "(row column) (y x) -> (row y) (column x)", column=columns, y=SIDE)
    axes.imshow(tiles, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    main()
