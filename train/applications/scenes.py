"""Scenes of a handwritten digit and a drawn shape, with captions, and a network that has learned to see such objects.

A caption is "a small circle left of a seven". The digit is a real one, from MNIST. The shape is always named first, so
that a scene has one right caption. Eight of the forty pairs of digit and shape are held out.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from minitransformer.data import load
from train.applications.writer import EOS, PAD

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {3: "small", 6: "large"}
"""By half of a shape's width in pixels."""
OBJECTS = [(shape, half) for shape in SHAPES for half in SIZES]
WORDS = ("", "", "", "a", "an", "of", "left", "right", "above", "below", *SIZES.values(), *DIGITS, *SHAPES)
LONGEST = 8
"""a small circle left of a seven EOS"""
SIZE, DIGIT, CELL = 40, 20, 4
"""Pixels across a picture, a digit, and a cell of the grid of a picture, which the eye halves twice."""
SIDE = SIZE // CELL
CELLS = SIDE**2
VALIDATION, TEST = 500, 1000
"""Numbers of scenes."""
Digits = tuple[np.ndarray, np.ndarray]
"""Images (N, 20, 20), from 0 to 1, and labels."""


def is_held_out(digit: int, shape: int) -> bool:
    """Whether a pair is in no training scene: eight of the forty, two of each shape and no digit twice."""
    return (digit + shape) % 5 == 0


def scenes(digits: Mapping[str, Digits], count: int, eye: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The splits. An image of a digit is in one alone. Half of the test scenes have held-out pairs, the others none.

    The digits of training scenes are `varied`, so that the eye does not know them better than the test's digits.
    """
    images, labels = digits["train"]
    torch.manual_seed(0)
    copies = varied(torch.from_numpy(images).float().repeat(3, 1, 1)[:, None])[:, 0].numpy()
    digits = {**digits, "train": (copies, np.tile(labels, 3))}
    counts = {"train": count, "validation": VALIDATION, "test": TEST}
    return {
        name: split(*digits[name], [name == "test" and row % 2 == 0 for row in range(scenes)], eye, seed)
        for seed, (name, scenes) in enumerate(counts.items())
    }


def middle_of_digits() -> dict[str, Digits]:
    """The middle of the images of MNIST, which holds the digits, and the labels, of each split."""
    middle = slice(14 - DIGIT // 2, 14 + DIGIT // 2)
    splits = {name: rows[:] for name, rows in load("digits").with_format("numpy").items()}
    return {name: (rows["image"][:, middle, middle] / 255, rows["label"]) for name, rows in splits.items()}


def split(digits: np.ndarray, labels: np.ndarray, held_out: list[bool], eye: nn.Module, seed: int) -> dict[str, Tensor]:
    """Scenes whose pair is `held_out` or not. `inputs` are the cells (N, L, D) that the eye sees in the `images`,
    `nouns` the places of the two nouns in a caption, and `boxes` the cells that their objects touch."""
    random = np.random.default_rng(seed)
    pictures, captions, boxes = zip(*(scene(random, digits, labels, wanted) for wanted in held_out), strict=True)
    ids, nouns, images = torch.full((len(captions), LONGEST), PAD), [], torch.from_numpy(np.stack(pictures))
    for row, caption in zip(ids, captions, strict=True):
        words = caption.split()
        row[: len(words) + 1] = torch.tensor([*map(WORDS.index, words), EOS])
        nouns.append((2, len(words) - 1))
    with torch.no_grad():
        seen = [eye(rearrange(part, "row y x -> row 1 y x") / 255).half() for part in images.split(500)]
    return {
        "images": images,
        "inputs": rearrange(torch.cat(seen), "row width y x -> row (y x) width"),
        "ids": ids,
        "nouns": torch.tensor(nouns),
        "boxes": torch.from_numpy(np.stack(boxes)),
        "held_out": torch.tensor(held_out),
    }


def scene(
    random: np.random.Generator, digits: np.ndarray, labels: np.ndarray, held_out: bool
) -> tuple[np.ndarray, str, np.ndarray]:
    """A picture, its caption, and the cells (2, L) of the shape and of the digit."""
    while True:
        row, (shape, half) = random.integers(len(digits)), OBJECTS[random.integers(len(OBJECTS))]
        digit = int(labels[row])
        if is_held_out(digit, SHAPES.index(shape)) == held_out:
            break
    while True:  # until they do not touch, and it is plain which relation holds
        at = random.integers(DIGIT // 2, SIZE - DIGIT // 2 + 1, 2), random.integers(half, SIZE - half, 2)
        down, right = at[1] - at[0]
        far, near = max(abs(down), abs(right)), min(abs(down), abs(right))
        if far >= half + DIGIT // 2 and far - near >= 6:
            break
    objects = [(shape_mask(shape, half), at[1]), (digits[row], at[0])]
    relation = ("right of" if right > 0 else "left of") if abs(right) > abs(down) else "below" if down > 0 else "above"
    caption = f"a {SIZES[half]} {shape} {relation} {'an' if digit == 8 else 'a'} {DIGITS[digit]}"
    return painted(objects, SIZE, random), caption, np.stack([box_cells(*each) for each in objects])


def painted(objects: list[tuple[np.ndarray, np.ndarray]], size: int, random: np.random.Generator) -> np.ndarray:
    """A noisy picture of objects, each with the place (y, x) of its middle. Their brightness varies."""
    picture = random.normal(0, 0.03, (size, size)).astype(np.float32)
    for pixels, (y, x) in objects:
        half = len(pixels) // 2
        picture[y - half : y - half + len(pixels), x - half : x - half + len(pixels)] += random.uniform(0.6, 1) * pixels
    return (255 * picture.clip(0, 1)).astype(np.uint8)


@lru_cache
def shape_mask(name: str, half: int) -> np.ndarray:
    """True inside the shape, in a square of 2 `half` + 1 pixels."""
    down, right = np.mgrid[-half : half + 1, -half : half + 1]
    far, near = np.maximum(abs(down), abs(right)), np.minimum(abs(down), abs(right))
    inside = {
        "circle": np.hypot(down, right) <= half,
        "square": far <= half - 1,
        "triangle": (abs(down) <= half) & (2 * abs(right) <= down + half),
        "cross": (far <= half) & (near <= half // 4),
    }
    return inside[name]


def box_cells(pixels: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The cells (L,) that the box around an object touches."""
    cells = np.zeros((SIDE, SIDE), bool)
    inked = np.argwhere(pixels > 0.2) + middle - len(pixels) // 2
    (top, left), (bottom, right) = inked.min(axis=0) // CELL, inked.max(axis=0) // CELL
    cells[top : bottom + 1, left : right + 1] = True
    return cells.flatten()


# The eye


def new_eye(width: int) -> nn.Sequential:
    """From pictures (B, 1, H, W) to cells (B, width, H / 4, W / 4), each of which sees 20 x 20 pixels."""

    def layer(before: int, after: int, size: int, pool: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
        return [convolution, nn.MaxPool2d(pool), nn.BatchNorm2d(after), nn.ReLU()]

    layers = [*layer(1, 16, 5, 2), *layer(16, 32, 3, 2), *layer(32, width, 3), *layer(width, width, 1)]
    # Convolutions with few channels are faster in this memory format.
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def varied(pictures: Float[Tensor, "row 1 y x"]) -> Float[Tensor, "row 1 y x"]:
    """The pictures, each turned, stretched and shifted a little in a way of its own."""
    ways = torch.eye(2, 3) + torch.empty(len(pictures), 2, 3).uniform_(-0.2, 0.2)
    return F.grid_sample(pictures, F.affine_grid(ways, list(pictures.shape), align_corners=False), align_corners=False)


def trained_eye(digits: np.ndarray, labels: np.ndarray, width: int, steps: int) -> nn.Sequential:
    """An eye that has learned to name single `varied` objects in 24 x 24 pixels, from each of the four cells in the
    middle."""
    torch.manual_seed(0)
    digit_pictures = F.pad(torch.from_numpy(digits).float(), [2] * 4)
    masks = [F.pad(torch.from_numpy(shape_mask(*each)).float(), [12 - each[1], 11 - each[1]] * 2) for each in OBJECTS]
    objects = rearrange(torch.cat([digit_pictures, torch.stack(masks)]), "object y x -> object 1 y x")
    names = torch.cat([torch.from_numpy(labels), len(DIGITS) + torch.arange(len(OBJECTS))])
    eye, name = new_eye(width), nn.Linear(width, len(DIGITS) + len(OBJECTS))
    optimizer = torch.optim.Adam([*eye.parameters(), *name.parameters()], lr=3e-3)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-2, steps)
    for _ in range(steps):
        rows = torch.cat([torch.randint(len(digits), (64,)), len(digits) + torch.randint(len(OBJECTS), (16,))])
        light = torch.empty(len(rows), 1, 1, 1).uniform_(0.6, 1)
        pictures = light * varied(objects[rows])
        cells = eye(pictures + 0.03 * torch.randn_like(pictures))
        logits = name(rearrange(cells[:, :, 2:4, 2:4], "batch width y x -> (batch y x) width"))
        optimizer.zero_grad()
        F.cross_entropy(logits, names[rows].repeat_interleave(4)).backward()
        optimizer.step()
        falling.step()
    return eye.eval()
