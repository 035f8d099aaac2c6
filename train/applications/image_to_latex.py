"""Image to LaTeX: a network reads a picture of a formula and writes the formula's LaTeX.

What You Get Is What You See (Deng, Kanervisto and Rush 2016). A convolutional network turns the image into a grid of
vectors, a BiLSTM runs over each row of the grid, and a decoder with attention writes one token after another:

    V = CNN(image)                          H/4 x W/4 vectors
    Ṽ_r = BiLSTM(V_r + E_r + F)             learned vectors of the row and of the columns say where a vector lies
    h_t = LSTM([E y_{t-1}; õ_{t-1}], h_{t-1})       õ is fed back: input feeding (Luong et al. 2015)
    α_t = softmax_i(h_tᵀ W ṽ_i)             c_t = Σ_i α_ti ṽ_i, over all vectors of the grid
    õ_t = tanh(W [c_t; h_t])                p(y_t) = softmax(V õ_t + b)

The formulas come from a random grammar, and matplotlib draws them. LaTeX has many spellings of one picture, so the
grammar has one: a subscript before a superscript, braces only where they are needed. The rival of the same size sees
the mean of the grid at every step: it knows which symbols are there, but cannot look at one after the other.

python -m train.applications.image_to_latex
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from minitransformer.attention_maps import record_attention
from minitransformer.checks import Count, Range
from minitransformer.models.base import Memory, embedded
from minitransformer.models.rnn_cells import RecurrentStack
from minitransformer.models.rnn_decoders import FeedingLuongDecoder, RNNState
from minitransformer.models.rnn_encoder import RecurrentEncoder
from minitransformer.plots import save_figure
from minitransformer.recurrent import Multiplicative
from minitransformer.text_encoding import pad
from train.applications.rivals import ApplicationSettings, Contest, Size, Split, mean_loss
from train.applications.writer import EOS, FIRST, PAD, Ids, Logits, Writer, WriterConfig, exact_match, written
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

HEIGHT, WIDTH, ASCENT = 28, 72, 18
"""Of an image in pixels; the last one is how many lie above mathtext's baseline."""
ROWS, COLUMNS = HEIGHT // 4, WIDTH // 4
ATOMS = (*"abxy123", r"\pi")
SYMBOLS = (*ATOMS, "+", "-", "=", "_", "^", "{", "}", r"\frac", r"\sqrt")
VOCAB_SIZE = FIRST + len(SYMBOLS)
LONGEST = 10
"""The most tokens of a formula, EOS not counted."""

Images = Float[Tensor, "batch height width"]


@dataclass(frozen=True)
class ImageToLatexSettings(ApplicationSettings):
    """Read pictures of formulas and write their LaTeX, beside a decoder that sees the mean of the picture."""

    settings_file: ClassVar[str] = "image_to_latex.json"

    lr: LearningRate = 8e-3
    batch_size: Count = 32
    formulas: Annotated[int, Range(at_least=10, at_most=100_000)] = 2000
    """How many different formulas to draw. A tenth is for validation, another tenth for the test."""
    d_model: Annotated[int, Range(at_least=2, at_most=10_000)] = 24
    """The width of embeddings and of each direction of the rows' BiLSTM; half, once and twice, of the convolutions."""
    hidden_size: Size = 64
    """Of the decoder."""
    beam_size: Annotated[int, Range(at_least=1, at_most=VOCAB_SIZE)] = 5


def main(arguments: list[str] | None = None) -> None:
    run_job(ImageToLatexSettings, "applications.image_to_latex", compare, arguments)


def compare(settings: ImageToLatexSettings, folder: Path, console: Console) -> None:
    rows, skipped = drawn_formulas(settings.formulas)
    reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(skipped.items()))
    console.print(f"{settings.formulas:,} formulas; skipped: {reasons}")
    attentive = LatexWriterConfig(settings.hidden_size, settings.d_model)
    Contest(
        rivals={
            "attention": lambda: LatexWriter(attentive),
            "mean of the image": lambda: LatexWriter(replace(attentive, pooled=True)),
        },
        data=splits_of(rows),
        evaluate=figures,
        best="exact match",
        test=partial(test_figures, beam_size=settings.beam_size),
        draw=lambda models, rows, path: draw(models["attention"], rows, path),
        steps=1200,
        unit="symbols",
    ).run(settings, folder, console)


# The data


def random_formula(rng: random.Random) -> list[str]:
    """One to three terms with operators between them."""
    formula = random_term(rng)
    for _ in range(rng.choice((0, 1, 2))):
        formula += [rng.choice("+-="), *random_term(rng)]
    return formula


def random_term(rng: random.Random) -> list[str]:
    """A symbol, with scripts or without; a fraction; or a root."""
    kind = rng.choice(("atom", "scripts", "scripts", r"\frac", r"\sqrt"))
    if kind == r"\frac":
        return [kind, "{", *random_sum(rng), "}", "{", *random_sum(rng), "}"]
    if kind == r"\sqrt":
        return [kind, "{", *random_sum(rng), "}"]
    scripts = rng.choice(("_", "^", "_^")) if kind == "scripts" else ""
    return [rng.choice(ATOMS), *(token for script in scripts for token in (script, rng.choice(ATOMS)))]


def random_sum(rng: random.Random) -> list[str]:
    return [rng.choice(ATOMS), *rng.choice(([], [rng.choice("+-"), rng.choice(ATOMS)]))]


@cache
def image_of(formula: tuple[str, ...]) -> Float[Tensor, "height width"] | str:
    """The formula in black, 1, on white, 0; or why there is no image of it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser

    # No space but after a command: mathtext does not lower or raise what stands after "_" or "^" and a space.
    text = "".join(f"{symbol} " if symbol[0] == "\\" else symbol for symbol in formula)
    try:
        drawn = MathTextParser("agg").parse(f"${text}$", 72, FontProperties(size=13))
    except ValueError:
        return "refused by mathtext"
    pixels = torch.from_numpy(np.asarray(drawn.image, dtype=np.float32) / 255)
    top = ASCENT - round(drawn.height - drawn.depth)
    above, below, right = top, HEIGHT - top - len(pixels), WIDTH - 1 - pixels.shape[1]
    return "too large" if min(above, below, right) < 0 else F.pad(pixels, (1, right, above, below))


def drawn_formulas(
    count: int, make: Callable[[random.Random], list[str]] = random_formula
) -> tuple[Split, Counter[str]]:
    """The images and the ids (... EOS) of so many formulas, no two of which look alike, and how many were skipped
    for what reason."""
    rng, drawn, skipped = random.Random(2), dict[bytes, tuple[Tensor, list[int]]](), Counter[str]()
    while len(drawn) < count:
        formula = make(rng)
        image = image_of(tuple(formula)) if len(formula) <= LONGEST else "too long"
        if isinstance(image, Tensor) and image.numpy().tobytes() in drawn:
            image = "like an earlier one"
        if isinstance(image, str):
            skipped[image] += 1
        else:
            drawn[image.numpy().tobytes()] = (image, [*(FIRST + SYMBOLS.index(symbol) for symbol in formula), EOS])
    images, texts = zip(*drawn.values(), strict=True)
    return {"inputs": torch.stack(images), "ids": pad(texts, PAD)}, skipped


def splits_of(rows: Split) -> dict[str, Split]:
    """A tenth for the test, a tenth for validation. In random order: the shortest formulas are drawn first."""
    count = len(rows["ids"])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2))
    places = {"test": order[: count // 10], "validation": order[count // 10 : count // 5], "train": order[count // 5 :]}
    return {name: {key: tensor[place] for key, tensor in rows.items()} for name, place in places.items()}


def symbols_of(ids: Sequence[int]) -> list[str]:
    return [SYMBOLS[number - FIRST] for number in ids if number >= FIRST]


# The model


@dataclass(frozen=True)
class LatexWriterConfig(WriterConfig):
    """`pooled`: the decoder sees the mean of the grid only."""

    hidden_size: int
    d_model: int
    pooled: bool = False


def convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


class LatexWriter(Writer):
    """From an image to the symbols of a formula."""

    config_class = LatexWriterConfig

    def __init__(self, config: LatexWriterConfig):
        super().__init__()
        self.config = c = config
        width = c.d_model
        self.cnn = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *convolution(width // 2, width),
            nn.MaxPool2d(2),
            *convolution(width, 2 * width),
        )
        # Small at first, beside the image's own vectors.
        self.rows_and_columns = nn.Parameter(0.1 * torch.randn(ROWS + COLUMNS, 2 * width))
        self.line = RecurrentEncoder("lstm", 2 * width, width, 1, bidirectional=True, dropout=0.0)
        self.first_state = nn.Linear(2 * width, 2 * c.hidden_size)
        self.symbols = nn.Embedding(VOCAB_SIZE, width)
        cell = RecurrentStack("lstm", width + c.hidden_size, c.hidden_size, 1, dropout=0.0)
        attention = Multiplicative(c.hidden_size, 2 * width)
        self.decoder = FeedingLuongDecoder(cell, c.hidden_size, attention, 2 * width, dropout=0.0)
        self.output = nn.Linear(c.hidden_size, VOCAB_SIZE)

    def encode(self, images: Images) -> Memory:
        """The grid, row after row; or its mean, as a grid of one."""
        grid = self.cnn(rearrange(images, "batch height width -> batch 1 height width"))
        row, column = self.rows_and_columns.split([ROWS, COLUMNS])
        lines = rearrange(grid, "batch width row column -> batch row column width") + row[:, None] + column
        states, _ = self.line(rearrange(lines, "batch row column width -> (batch row) column width"), None)
        states = rearrange(states, "(batch row) column width -> batch (row column) width", row=ROWS)
        mean = states.mean(dim=1, keepdim=True)
        first = torch.tanh(self.first_state(mean[:, 0])).chunk(2, dim=1)
        states = mean if self.config.pooled else states
        return Memory(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device), first)

    def read(self, images: Images) -> RNNState:
        memory = self.encode(images)
        assert memory.final is not None
        return self.decoder.start(memory, memory.final)

    def write(self, before: Ids, state: RNNState) -> tuple[Logits, RNNState]:
        features, state = self.decoder(embedded(self.symbols, "ids", before, VOCAB_SIZE), state)
        return self.output(features), state


# The figures and the picture


def figures(model: LatexWriter, rows: Split) -> dict[str, float]:
    found = written(model, rows["inputs"], LONGEST + 1)
    return {"exact match": exact_match(found, rows["ids"]), "loss": mean_loss(model, rows)}


def test_figures(model: LatexWriter, rows: Split, beam_size: int) -> dict[str, float]:
    greedily, found = (written(model, rows["inputs"], LONGEST + 1, size) for size in (1, beam_size))
    by = {f"exact, beam {beam_size}": found, "exact, greedy": greedily}
    exact = {name: exact_match(ids, rows["ids"]) for name, ids in by.items()}
    return exact | drawn_again([symbols_of(ids) for ids in found], rows["inputs"])


def drawn_again(found: Sequence[Sequence[str]], images: Images) -> dict[str, float]:
    """The share of formulas that give the same image, and of those that mathtext cannot draw."""
    again = [image_of(tuple(formula)) if formula else "empty" for formula in found]
    alike = [
        isinstance(image, Tensor) and torch.equal(image, right) for image, right in zip(again, images, strict=True)
    ]
    refused = [isinstance(image, str) and image == "refused by mathtext" for image in again]
    return {"alike": sum(alike) / len(alike), "refused": sum(refused) / len(refused)}


@torch.inference_mode()
def draw(model: LatexWriter, rows: Split, path: Path) -> None:
    """The longest test formula, and where the model looked as it wrote each symbol."""
    from matplotlib.figure import Figure

    row = int((rows["ids"] != PAD).sum(dim=1).argmax())
    image = rows["inputs"][row : row + 1]
    [ids] = written(model, image, LONGEST + 1)
    found = symbols_of(ids)
    with record_attention(model) as maps:
        model(image, torch.tensor([[*ids, EOS]]))
    looks = rearrange(maps["decoder.attention"][0, 0], "time (row column) -> time row column", row=ROWS)
    lines = -(-len(looks) // 4)
    figure = Figure(figsize=(9, 0.95 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, 4, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, look, symbol in zip(panels, looks, [*found, "end"], strict=False):
        edges = (0, WIDTH, HEIGHT, 0)
        axes.imshow(1 - image[0], cmap="gray", extent=edges)
        axes.imshow(look, cmap="Reds", alpha=0.55, vmin=0, extent=edges)
        axes.set_title(symbol, fontsize=9, family="monospace", parse_math=False)
    figure.suptitle("Where the model looked (red) as it wrote each symbol: " + " ".join(found), fontsize=9)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
