"""Attention U-Net: gates on the skips of a U-Net, told by the coarse level where to look.

A U-Net halves an image step by step, so that its lowest level sees far, and doubles it again. A skip hands the fine
features x of each level to the way up: all of them, whether they matter or not. An attention gate (Oktay et al. 2018)
first asks the coarser features g from below, which have seen more of the image:

    q = ψᵀ ReLU(W_x x + W_g g + b_g) + b_ψ        α = σ(q), a number from 0 to 1 at each place        x̂ = α · x

This is additive attention with a sigmoid in the place of the softmax: each place is let through or not, by itself.

The data is made so that the fine features cannot know the answer. Each image has seven ellipses, all drawn alike. The
target is the one to the right of a ring. The rivals: a U-Net whose skips have no gates, a U-Net without skips, and one
whose gates are given the signal g of another image.

python -m train.applications.attention_unet
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float
from rich.console import Console
from torch import Tensor, nn

from minitransformer.checks import Count, Range
from minitransformer.errors import InputError
from minitransformer.models.base import Config, Loss, Model
from minitransformer.plots import save_figure
from train.applications.panels import panels
from train.applications.rivals import ApplicationSettings, Contest, Size, mean_loss, parameters_of
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

Images = Float[Tensor, "batch 1 height width"]
Masks = Bool[Tensor, "batch 1 height width"]
Features = Float[Tensor, "batch channels height width"]
Skips = Literal["gated", "shuffled", "open", "none"]

HALVINGS = 3
LOOK_ALIKES = 6


@dataclass(frozen=True)
class AttentionUNetSettings(ApplicationSettings):
    """A U-Net with attention gates finds the ellipse right of a ring, beside U-Nets without gates and without skips."""

    settings_file: ClassVar[str] = "attention_unet.json"

    lr: LearningRate = 2e-2
    batch_size: Count = 8
    evaluations: Count = 4
    images: Annotated[int, Range(at_least=2, at_most=100_000)] = 1600
    """Images for training. A tenth as many more are for validation, and a fifth as many for the test."""
    size: Annotated[int, Range(at_least=32, at_most=512)] = 64
    """Height and width of an image, a multiple of 8."""
    channels: Size = 6
    """Of the finest level. The levels below have 2, 4 and 4 times as many."""

    def validate(self) -> None:
        super().validate()
        if self.size % 2**HALVINGS:
            raise InputError(f"--size {self.size} is not divisible by {2**HALVINGS}: it is halved {HALVINGS} times")


def main(arguments: list[str] | None = None) -> None:
    run_job(AttentionUNetSettings, "applications.attention_unet", compare, arguments)


def compare(settings: AttentionUNetSettings, folder: Path, console: Console) -> None:
    counts = {"train": settings.images, "validation": settings.images // 10 + 1, "test": settings.images // 5 + 1}
    data = {name: scenes(count, settings.size, seed) for seed, (name, count) in enumerate(counts.items())}
    gated = UNetConfig(channels=settings.channels, bottom=4 * settings.channels)
    Contest(
        rivals={
            "attention gates": lambda: UNet(gated),
            "no gates": lambda: UNet(as_large(gated, "open")),
            "no skips": lambda: UNet(as_large(gated, "none")),
            "another image's signal": lambda: UNet(replace(gated, skips="shuffled")),
        },
        data=data,
        evaluate=lambda model, rows: {"Dice": dice(model, rows), "loss": mean_loss(model, rows)},
        best="Dice",
        test=test_figures,
        draw=draw,
        steps=300,
        warmup_steps=20,
        unit="images",
    ).run(settings, folder, console)


# The data


def scenes(count: int, size: int, seed: int) -> dict[str, Tensor]:
    """`images` in grey values; `target` is True in the ellipse right of the ring, `alike` in the others."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    images, targets, alike = [], [], []
    for _ in range(count):
        ring, *centres = arrangement(rng)
        inside = torch.stack([ellipse(centre, rng, size) for centre in centres])
        is_ring = (torch.hypot(*offsets(ring, size)) - 3.75).abs() < 1.25
        # The background is noise on two scales, so that no level can do without the others.
        clouds = F.interpolate(torch.rand(1, 1, 8, 8, generator=generator), size=(size, size), mode="bicubic")[0]
        image = 0.2 * clouds + 0.2 * torch.rand(1, size, size, generator=generator)
        images.append(image + 0.5 * (inside.any(dim=0) | is_ring))
        targets.append(inside[:1])
        alike.append(inside[1:].any(dim=0, keepdim=True))
    return {"images": torch.stack(images), "target": torch.stack(targets), "alike": torch.stack(alike)}


def arrangement(rng: random.Random) -> list[tuple[float, float]]:
    """The centres (x, y), on a field of 64 x 64, of the ring, the target and the look-alikes.

    The target is 13 to 18 right of the ring, at most 25 degrees up or down. No look-alike is about there.
    """
    ring = rng.uniform(7, 40), rng.uniform(13, 51)
    distance, angle = rng.uniform(13, 18), math.radians(rng.uniform(-25, 25))
    places = [ring, (ring[0] + distance * math.cos(angle), ring[1] + distance * math.sin(angle))]
    while len(places) < 2 + LOOK_ALIKES:
        place = x, y = rng.uniform(7, 57), rng.uniform(7, 57)
        ambiguous = math.dist(place, ring) < 24 and abs(math.atan2(y - ring[1], x - ring[0])) < math.radians(45)
        if not ambiguous and all(math.dist(place, other) > 12 for other in places):
            places.append(place)
    return places


def offsets(centre: tuple[float, float], size: int) -> tuple[Float[Tensor, "size size"], ...]:
    """How far each pixel is right of and below `centre`, on the field of 64 x 64."""
    along = (torch.arange(size) + 0.5) * 64 / size
    return torch.meshgrid(along - centre[0], along - centre[1], indexing="xy")


def ellipse(centre: tuple[float, float], rng: random.Random, size: int) -> Bool[Tensor, "size size"]:
    """Its pixels: 1 to 2% of the image."""
    (right, below), angle = offsets(centre, size), rng.uniform(0, math.pi)
    along, across = (right * math.cos(angle + turn) + below * math.sin(angle + turn) for turn in (0, math.pi / 2))
    return (along / rng.uniform(4, 5.5)) ** 2 + (across / rng.uniform(3, 4)) ** 2 < 1


# The model


class AttentionGate(nn.Module):
    """x̂ = BN(W (α · x)) with α = σ(ψᵀ ReLU(W_x x + W_g g + b_g) + b_ψ) (Oktay et al. 2018, eq. 1-2).

    g has half the height and width of x. α is computed on that coarser grid, where W_x is a convolution with stride 2.
    """

    def __init__(self, channels: int, signal_channels: int):
        super().__init__()
        self.project_x = nn.Conv2d(channels, channels, 2, stride=2, bias=False)
        self.project_signal = nn.Conv2d(signal_channels, channels, 1)
        self.score = nn.Conv2d(channels, 1, 1)
        self.output = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Features, signal: Float[Tensor, "batch below y x"]) -> tuple[Features, Images]:
        """x̂ and α."""
        alpha = torch.sigmoid(self.score(F.relu(self.project_x(x) + self.project_signal(signal))))
        alpha = F.interpolate(alpha, scale_factor=2, mode="bilinear")
        return self.output(alpha * x), alpha


@dataclass(frozen=True)
class UNetConfig(Config):
    """`skips` are gated, gated with the signal of another image ("shuffled"), open, or absent ("none")."""

    channels: int
    bottom: int
    """Channels of the lowest level."""
    skips: Skips = "gated"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("channels", "bottom")


class UNet(Model):
    """From images to a logit at each pixel. Weights start as torch's modules start."""

    config_class = UNetConfig

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = c = config
        widths = [c.channels, 2 * c.channels, 4 * c.channels, c.bottom]
        self.down = nn.ModuleList(convolutions(*pair) for pair in pairwise([1, *widths]))
        pairs = list(pairwise(widths))
        skipped = [0 if c.skips == "none" else width for width in widths]
        self.up = nn.ModuleList(convolutions(skipped[k] + below, width) for k, (width, below) in enumerate(pairs))
        # As in the paper the finest skip has no gate: its features are too simple to be asked.
        is_gated = c.skips in ("gated", "shuffled")
        self.gates = nn.ModuleList(AttentionGate(*pair) for pair in pairs[1:] if is_gated)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths[:-1])
        # Convolutions with few channels are faster in this memory format.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Images) -> Images:
        return self.levels(images)[0][0]

    def levels(self, images: Images, *, shuffled: bool = False) -> tuple[list[Images], list[Images]]:
        """The logits of the head of each level and α of each gate, finest first, grown to the size of the images.

        `shuffled`: the gates are given the signal of another image of the batch.
        """
        grown = partial(F.interpolate, size=images.shape[2:], mode="bilinear")
        shuffled = shuffled or self.config.skips == "shuffled"
        skips, logits, alphas = list[Features](), list[Images](), list[Images]()
        x = images
        for level, convolve in enumerate(self.down):
            x = convolve(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(HALVINGS)):
            above, skip = F.interpolate(x, scale_factor=2, mode="bilinear"), skips[level]
            if level and self.gates:
                skip, alpha = self.gates[level - 1](skip, x.roll(1, dims=0) if shuffled else x)
                alphas.insert(0, grown(alpha))
            x = self.up[level](above if self.config.skips == "none" else torch.cat([skip, above], dim=1))
            logits.insert(0, grown(self.heads[level](x)))
        return logits, alphas

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """1 - Dice at the head of each level (deep supervision), so that coarse levels too must know the target."""
        losses = [1 - soft_dice(torch.sigmoid(logits), batch["target"]) for logits in self.levels(batch["images"])[0]]
        return {"images": Loss(torch.stack(losses).mean(dim=0).sum(), torch.tensor(len(batch["images"])))}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": torch.tensor(len(batch["images"]))}


def convolutions(channels: int, out: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for inputs in (channels, out):
        layers += [nn.Conv2d(inputs, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


def as_large(gated: UNetConfig, skips: Skips) -> UNetConfig:
    """A U-Net with other skips, and with the lowest level so wide that it has as many parameters, or a few more."""
    config, wanted = replace(gated, skips=skips), parameters_of(lambda: UNet(gated))
    while parameters_of(partial(UNet, config)) < wanted:
        config = replace(config, bottom=config.bottom + 1)
    return config


# The figures and the picture


def soft_dice(found: Images, target: Masks) -> Float[Tensor, " batch"]:
    """2 |found ∩ target| / (|found| + |target|) of each image, with 1 added above and below."""
    both, either = (reduce(x, "batch 1 y x -> batch", "sum") for x in (found * target, found + target))
    return (2 * both + 1) / (either + 1)


@torch.inference_mode()
def dice(model: UNet, rows: dict[str, Tensor], *, shuffled: bool = False) -> float:
    """Mean Dice of the pixels with a probability over one half."""
    [logits, *_], _ = model.eval().levels(rows["images"].to(model.device), shuffled=shuffled)
    return soft_dice((logits.cpu() > 0).float(), rows["target"]).mean().item()


@torch.inference_mode()
def test_figures(model: UNet, rows: dict[str, Tensor]) -> dict[str, float]:
    """Dice and, of gates, how much more open they are in the target than elsewhere, and than in its look-alikes."""
    figures = {"Dice": dice(model, rows)}
    if model.gates:
        alpha = torch.stack(model.levels(rows["images"].to(model.device))[1]).mean(dim=0).cpu()
        inside = alpha[rows["target"]].mean()
        figures["Dice, signal shuffled"] = dice(model, rows, shuffled=True)
        figures["α in / out"] = (inside / alpha[~rows["target"]].mean()).item()
        figures["α in / alike"] = (inside / alpha[rows["alike"]].mean()).item()
    return figures


@torch.inference_mode()
def draw(models: Mapping[str, UNet], rows: dict[str, Tensor], path: Path) -> None:
    """Three test images: where the gates of each gated model are open, and the probabilities of every model."""
    images, target = rows["images"][:3], rows["target"][:3]
    columns = {"the image\ntarget outlined": images}
    for name, model in models.items():
        if model.gates:
            columns[f"α of the gates\n{name}"] = torch.stack(model.levels(images)[1]).mean(dim=0)
    columns |= {f"what is found\n{name}": torch.sigmoid(model(images)) for name, model in models.items()}
    figure, _ = panels({name: maps[:, 0] for name, maps in columns.items()}, target[:, 0], label="α, or probability")
    figure.suptitle("The target is the ellipse to the right of the ring: where the gates are open, and what is found")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
