"""Residual attention: a mask in each module says what matters, and cannot shut anything off.

A residual network refines its features unit by unit. An attention module (Wang et al. 2017) has two branches. The trunk
T does just that. The mask M halves the features so that it sees far, grows them again, and ends in a sigmoid at each
place and channel. The output is

    H(x) = (1 + M(x)) · T(x)        0 < M < 1

The obvious product M · T weakens the features at every module, and a stack of modules fades them out. With 1 + M a mask
near 0 leaves T as it is: the mask is to the trunk what a residual branch is to its input.

The data are handwritten digits on canvases with pieces of other digits, once with the right labels, once with 40% wrong
ones. The rivals: a residual network of the same size, and M · T. `--modules 1` shows that M · T does no harm alone.

python -m train.applications.residual_attention
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from rich.console import Console
from torch import Tensor, nn

from minitransformer.checks import Count, Share
from minitransformer.data import load
from minitransformer.errors import InputError
from minitransformer.models.base import Config, Loss, Model, target_loss
from minitransformer.plots import save_figure
from train.applications.panels import panels
from train.applications.rivals import ApplicationSettings, Contest, Size
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

SIZE, DIGIT, PIECE = 32, 20, 7
"""Pixels of a canvas, of the middle of an image of MNIST, which holds the digit, and of a piece of another digit."""
LABELS = 10

Images = Float[Tensor, "batch colours height width"]
Features = Float[Tensor, "batch channels y x"]
Branches = Literal["(1+M)T", "MT", "none"]


@dataclass(frozen=True)
class ResidualAttentionSettings(ApplicationSettings):
    """Residual attention reads digits on cluttered canvases, labelled rightly or not, beside a ResNet and M·T."""

    settings_file: ClassVar[str] = "residual_attention.json"

    lr: LearningRate = 1e-2
    batch_size: Count = 32
    evaluations: Count = 2
    noise: Share = 0.4
    """The share of wrong labels in the runs with noise; 0 for no such runs."""
    pieces: Size = 4
    """Pieces of other digits on each canvas."""
    width: Size = 32
    """Channels that the modules work in, a multiple of 4."""
    modules: Count = 4
    """Attention modules in a row."""


def main(arguments: list[str] | None = None) -> None:
    run_job(ResidualAttentionSettings, "applications.residual_attention", compare, arguments)


def compare(settings: ResidualAttentionSettings, folder: Path, console: Console) -> None:
    base = ResidualAttentionConfig(settings.width, (settings.modules,), (2,), last_units=1, pooled_stem=True)
    configs = {"(1+M)T": base, "ResNet": replace(base, branches="none"), "MT": replace(base, branches="MT")}
    for name in ("(1+M)T", "ResNet") if settings.noise else ():
        configs[f"{name}, wrong labels"] = replace(configs[name], noisy=True)
    splits = digits().items()
    data = {name: canvases(*rows, settings.pieces, settings.noise, seed) for seed, (name, rows) in enumerate(splits)}
    Contest(
        rivals={name: partial(ResidualAttention, config) for name, config in configs.items()},
        data=data,
        evaluate=figures_of,
        best="accuracy",
        draw=lambda models, rows, path: draw(models["(1+M)T"], rows, path),
        steps=200,
        warmup_steps=5,
        unit="images",
    ).run(settings, folder, console)


# The data


def digits() -> dict[str, tuple[UInt8[np.ndarray, "rows 28 28"], Int[np.ndarray, " rows"]]]:
    """Images and labels of each split."""
    splits = {str(name): rows.with_format("numpy")[:] for name, rows in load("digits").items()}
    return {name: (rows["image"].astype(np.uint8), rows["label"].astype(np.int64)) for name, rows in splits.items()}


def canvases(
    images: UInt8[np.ndarray, "rows 28 28"], labels: Int[np.ndarray, " rows"], pieces: int, noise: float, seed: int
) -> dict[str, Tensor]:
    """One canvas for each digit: `images` in [0, 1], `labels`, and the `noisy` labels, of which a share is wrong."""
    rng, edge = np.random.default_rng(seed), (images.shape[1] - DIGIT) // 2
    whole = images[:, edge : edge + DIGIT, edge : edge + DIGIT]
    drawn = np.zeros((len(images), SIZE, SIZE), np.uint8)

    def paste(canvas: np.ndarray, patch: np.ndarray) -> None:
        top, left = rng.integers(0, SIZE - len(patch) + 1, 2)
        part = canvas[top : top + len(patch), left : left + len(patch)]
        np.maximum(part, patch, out=part)

    for canvas, digit in zip(drawn, whole, strict=True):
        for other in rng.integers(0, len(images), pieces):
            top, left = rng.integers(0, DIGIT - PIECE + 1, 2)
            paste(canvas, whole[other, top : top + PIECE, left : left + PIECE])
        paste(canvas, digit)
    wrong = (labels + rng.integers(1, LABELS, len(labels))) % LABELS
    noisy = np.where(rng.random(len(labels)) < noise, wrong, labels)
    grey = torch.from_numpy(drawn).unsqueeze(1) / 255
    return {"images": grey, "labels": torch.from_numpy(labels), "noisy": torch.from_numpy(noisy)}


# The model


@dataclass(frozen=True)
class ResidualAttentionConfig(Config):
    """The defaults are the paper's for ImageNet: `modules` (1, 1, 1) is Attention-56, (1, 2, 3) is Attention-92.

    `modules` and `poolings` have a number for each stage: the modules in a row, and how often a mask halves the
    features. With `branches` "none" each module is a row of plain units with as many parameters.
    """

    width: int = 256
    modules: Sequence[int] = (1, 1, 1)
    poolings: Sequence[int] = (3, 2, 1)
    last_units: int = 3
    colours: int = 1
    num_labels: int = LABELS
    branches: Branches = "(1+M)T"
    pooled_stem: bool = False
    """Whether the first convolution is followed by max pooling, as for large images."""
    noisy: bool = False
    """Whether the loss reads the noisy labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("width", "last_units", "colours", "num_labels")
        if self.width % 4:
            raise InputError(f"width={self.width} is not divisible by 4: a unit works in a quarter of its channels")
        if len(self.modules) != len(self.poolings) or not all(n > 0 for n in (*self.modules, *self.poolings)):
            raise InputError(f"modules={self.modules} and poolings={self.poolings}: one positive number for each stage")


class ResidualUnit(nn.Module):
    """x + f(x), where f is three convolutions through a quarter of the channels, each after batch norm and ReLU
    (He et al. 2016). Where the shape changes, x is projected after the first norm and ReLU."""

    def __init__(self, channels: int, out: int, stride: int = 1):
        super().__init__()
        self.first = nn.Sequential(*norm_relu(channels))
        self.rest = nn.Sequential(
            nn.Conv2d(channels, out // 4, 1, bias=False),
            *norm_relu(out // 4),
            nn.Conv2d(out // 4, out // 4, 3, stride, padding=1, bias=False),
            *norm_relu(out // 4),
            nn.Conv2d(out // 4, out, 1, bias=False),
        )
        same = channels == out and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Features) -> Float[Tensor, "batch out y2 x2"]:
        normed = self.first(x)
        return self.rest(normed) + (x if self.shortcut is None else self.shortcut(normed))


class Hourglass(nn.Module):
    """Halves the features, sees far, and grows them back to their size, `poolings` times inside one another.

    Each inner hourglass has a residual unit beside it for what is lost in it. The innermost level has two units.
    """

    def __init__(self, channels: int, poolings: int):
        super().__init__()
        self.down = nn.Sequential(*units(channels, 1 if poolings > 1 else 2))
        self.inner = Hourglass(channels, poolings - 1) if poolings > 1 else None
        if self.inner is not None:
            self.beside, self.up = units(channels, 2)

    def forward(self, x: Features) -> Features:
        low = self.down(F.max_pool2d(x, 3, stride=2, padding=1))
        if self.inner is not None:
            low = self.up(self.inner(low) + self.beside(low))
        return F.interpolate(low, x.shape[2:], mode="bilinear")


class AttentionModule(nn.Module):
    """H = (1 + M(x)) · T(x), or M(x) · T(x), between two residual units (Wang et al. 2017, eq. 1 and 3)."""

    def __init__(self, channels: int, poolings: int, branches: Branches):
        super().__init__()
        self.least = 1.0 if branches == "(1+M)T" else 0.0
        self.before, self.after = units(channels, 2)
        self.trunk = nn.Sequential(*units(channels, 2))
        self.mask = nn.Sequential(
            Hourglass(channels, poolings),
            *norm_relu(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            *norm_relu(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Features) -> Features:
        x = self.before(x)
        return self.after((self.least + self.mask(x)) * self.trunk(x))


def norm_relu(channels: int) -> list[nn.Module]:
    """Batch norm and ReLU. Runs are short, so that the norm's running averages forget faster than torch's do."""
    return [nn.BatchNorm2d(channels, momentum=0.3), nn.ReLU()]


def units(channels: int, count: int) -> list[ResidualUnit]:
    return [ResidualUnit(channels, channels) for _ in range(count)]


def module(channels: int, poolings: int, branches: Branches) -> nn.Module:
    """An attention module, or plain units: as many as the module has, and two for its mask's last two convolutions."""
    if branches == "none":
        return nn.Sequential(*units(channels, 2 + 2 + (3 * poolings - 1) + 2))
    return AttentionModule(channels, poolings, branches)


class ResidualAttention(Model):
    """From images to the logits of labels. Weights start as torch's modules start."""

    config_class = ResidualAttentionConfig

    def __init__(self, config: ResidualAttentionConfig):
        super().__init__()
        self.config = c = config
        first = c.width // 4
        layers: list[nn.Module] = [nn.Conv2d(c.colours, first, 7, stride=2, padding=3, bias=False)]
        layers += [*norm_relu(first), *([nn.MaxPool2d(3, 2, padding=1)] if c.pooled_stem else [])]
        before, width = first, c.width
        for stage, (count, poolings) in enumerate(zip(c.modules, c.poolings, strict=True)):
            layers.append(ResidualUnit(before, width, stride=2 if stage else 1))
            layers += [module(width, poolings, c.branches) for _ in range(count)]
            before, width = width, 2 * width
        layers += [ResidualUnit(before, width, stride=2), *units(width, c.last_units - 1)]
        self.layers = nn.Sequential(*layers, *norm_relu(width))
        self.output = nn.Linear(width, c.num_labels)
        # Convolutions with few channels are faster in this memory format.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Images) -> Float[Tensor, "batch labels"]:
        return self.output(self.layers(images).mean(dim=(2, 3)))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        labels = batch["noisy" if self.config.noisy else "labels"]
        return {"images": Loss(target_loss(self(batch["images"]), labels, "labels"), torch.tensor(len(labels)))}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": torch.tensor(len(batch["labels"]))}


# The figures and the picture


@torch.inference_mode()
def figures_of(model: ResidualAttention, rows: dict[str, Tensor]) -> dict[str, float]:
    """The share of right answers and the loss in nats, by the right labels."""
    logits, labels = model.eval()(rows["images"].to(model.device)).cpu(), rows["labels"]
    loss = target_loss(logits, labels, "labels").item() / len(labels)
    return {"accuracy": (logits.argmax(dim=1) == labels).float().mean().item(), "loss": loss}


@torch.inference_mode()
def draw(model: ResidualAttention, rows: dict[str, Tensor], path: Path) -> None:
    """Test canvases, and over each the first module's mask: the mean of all channels, and those that differ most."""
    images, labels = rows["images"][:4], rows["labels"][:4]
    first, module = next((k, layer) for k, layer in enumerate(model.layers) if isinstance(layer, AttentionModule))
    mask = F.interpolate(module.mask(module.before(model.layers[:first](images))), (SIZE, SIZE), mode="bilinear")
    lively = mask.std(dim=(2, 3)).mean(dim=0).argsort(descending=True)[:4].tolist()
    columns = {"": images[:, 0], "mean of M": mask.mean(dim=1)} | {f"M, channel {k}": mask[:, k] for k in lively}
    figure, grid = panels(columns, images[:, 0], label="M")
    for axes, answer, label in zip(grid[:, 0], model(images).argmax(dim=1), labels, strict=True):
        axes.set_ylabel(f"a {label}, read as {answer}", fontsize=8, color="black" if label == answer else "#c1121f")
    figure.suptitle("Which places each channel of the mask strengthens")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
