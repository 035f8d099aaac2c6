"""Image captioning: a recurrent network looks at one place of a picture after another, a word at a time.

Show, Attend and Tell (Xu et al. 2015). A convolutional network turns a picture into vectors a_1 ... a_L, one for each
cell of a grid. Before every word the LSTM scores all cells, from its state, and reads a context vector ẑ:

    α_t = softmax_i(v · tanh(W a_i + U h_{t-1}))        where to look
    soft: ẑ_t = β_t Σ_i α_ti a_i                        the mean of all cells, weighted
    hard: ẑ_t = β_t a_s,  s ~ α_t                       one cell alone, drawn
    β_t = σ(w · h_{t-1} + b)                            how much of the picture this word needs
    h_t = LSTM([E y_{t-1}; ẑ_t], h_{t-1})               h_0, c_0 = tanh(linear(mean of all a_i))
    p(y_t) = softmax(O tanh(P dropout(h_t) + E y_{t-1} + Q ẑ_t))

Soft attention is trained by its gradient, and with --coverage by a penalty λ Σ_i (1 - Σ_t α_ti)² for cells that are
never looked at.
A drawn place has no gradient: hard attention is trained by REINFORCE (see `CaptionWriter.regularizer`).

A scene has a handwritten digit and a drawn shape: "a small circle left of a seven". Some pairs of digit and shape
are in no training scene. As in the paper, the convolutional network is trained first, to name single objects, and what
it sees in each scene is computed once. The rival of the same size sees the mean of all cells at every word: it knows
what is in the picture, and hardly where.

python -m train.applications.image_captioning
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from rich.console import Console
from torch import Tensor, nn

from minitransformer.checks import Range
from minitransformer.dropout import Dropout
from minitransformer.models.base import Loss, embedded
from minitransformer.models.rnn_cells import RecurrentStack
from minitransformer.plots import save_figure
from minitransformer.recurrent import Additive
from train.applications.rivals import ApplicationSettings, Contest, Many, Size, mean_loss
from train.applications.scenes import CELLS, LONGEST, SIDE, SIZE, WORDS, middle_of_digits, scenes, trained_eye
from train.applications.writer import BOS, EOS, PAD, Ids, Logits, Writer, WriterConfig, exact_match, ids_before, written
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

REWARD, ENTROPY, MEMORY = 0.1, 0.002, 0.9
"""Of hard attention's gradient, as in the authors' code; see `CaptionWriter.regularizer`."""

Cells = Float[Tensor, "batch cell d_model"]
Weights = Float[Tensor, "batch cell"]
Glimpse = Callable[[Weights], Weights]
"""From α to the weights that the cells are read with."""


@dataclass(frozen=True)
class ImageCaptioningSettings(ApplicationSettings):
    """Captions of scenes by soft and by hard attention (Xu et al. 2015), beside a decoder of the mean vector."""

    settings_file: ClassVar[str] = "image_captioning.json"

    lr: LearningRate = 5e-3
    scenes: Many = 12_000
    """Training scenes; there are 500 for validation and 1,000 for the test, of other images of digits."""
    d_model: Size = 64
    """The width of every vector: cells, words, LSTM."""
    eye_steps: Many = 3000
    """Steps in which the convolutional network learns to name single objects, before all rivals."""
    coverage: Annotated[float, Range(at_least=0)] = 0.0
    """λ, the weight of the penalty for cells that soft attention never looks at; 1 in the paper."""


def main(arguments: list[str] | None = None) -> None:
    run_job(ImageCaptioningSettings, "applications.image_captioning", compare, arguments)


def compare(settings: ImageCaptioningSettings, folder: Path, console: Console) -> None:
    settings.set_threads(num_parameters=0)
    console.print(f"first, {settings.eye_steps} steps of naming single objects")
    digits = middle_of_digits()
    eye = trained_eye(*digits["train"], settings.d_model, settings.eye_steps)
    config = partial(CaptionConfig, settings.d_model, coverage=settings.coverage)
    Contest(
        rivals={
            "soft attention": lambda: CaptionWriter(config(attention="soft")),
            "hard attention": lambda: CaptionWriter(config(attention="hard")),
            "mean vector": lambda: CaptionWriter(config(attention="mean")),
        },
        data=scenes(digits, settings.scenes, eye),
        evaluate=lambda model, rows: {"exact caption": exact(model, rows), "loss": mean_loss(model, rows)},
        best="exact caption",
        test=test_figures,
        draw=draw,
        steps=2000,
        unit="words",
    ).run(settings, folder, console)


# The model


@dataclass(frozen=True)
class CaptionConfig(WriterConfig):
    """`coverage` is λ."""

    d_model: int
    attention: Literal["soft", "hard", "mean"] = "soft"
    coverage: float = 1.0


class Written(NamedTuple):
    """What decoding carries from step to step: cells (B, L, D), their keys, and the LSTM's state."""

    cells: Float[Tensor, "batch cell d_model"]
    keys: Float[Tensor, "batch cell width"]
    recurrent: tuple[Float[Tensor, "batch d_model"], ...]

    def select(self, rows: Tensor) -> "Written":
        return Written(self.cells[rows], self.keys[rows], tuple(x[rows] for x in self.recurrent))


class Steps(NamedTuple):
    """What each word gave: logits, α, and the weights that cells were read with, which are α in soft attention."""

    logits: Logits
    attention: Float[Tensor, "batch time cell"]
    read: Float[Tensor, "batch time cell"]


class CaptionWriter(Writer):
    """From the cells of a picture to its caption."""

    config_class = CaptionConfig
    baseline: Tensor

    def __init__(self, config: CaptionConfig):
        super().__init__()
        self.config = c = config
        d, narrow = c.d_model, (c.d_model + 1) // 2
        # A cell sees little more than itself. Only this says where it is.
        self.rows_and_columns = nn.Parameter(torch.randn(2, SIDE, d))
        self.first_state = nn.Linear(d, 2 * d)
        self.words = nn.Embedding(len(WORDS), d, padding_idx=BOS)  # before the first word: zeros
        if c.attention == "mean":
            # As many parameters as the attention has.
            self.mix = nn.Sequential(nn.Linear(d, narrow), nn.Tanh(), nn.Linear(narrow, d, bias=False))
        else:
            self.attention = Additive(d, d, narrow)
            nn.init.normal_(self.attention.v, std=narrow**-0.5)
        self.gate = nn.Linear(d, 1)
        self.rnn = RecurrentStack("lstm", 2 * d, d, 1, dropout=0.0)
        self.from_state, self.from_context = nn.Linear(d, d), nn.Linear(d, d, bias=False)
        self.dropout, self.output = Dropout(0.5), nn.Linear(d, len(WORDS))
        self.register_buffer("baseline", torch.zeros(()))

    def read(self, inputs: Cells) -> Written:
        """The cells with their places, and the state before the first word."""
        row, column = self.rows_and_columns
        cells = inputs + rearrange(rearrange(row, "y d -> y 1 d") + column, "y x d -> (y x) d")
        h, c = torch.tanh(self.first_state(cells.mean(dim=1))).chunk(2, dim=1)
        if self.config.attention == "mean":
            mean = cells.mean(dim=1, keepdim=True)
            cells = (mean + self.mix(mean)).expand_as(cells)
            return Written(cells, cells, (h, c))
        return Written(cells, self.attention.keys(cells), (h, c))

    def weights(self, h: Float[Tensor, "batch d_model"], state: Written) -> Weights:
        """α."""
        if self.config.attention == "mean":
            return torch.full_like(state.cells[..., 0], 1 / CELLS)
        every = torch.ones_like(state.keys[..., 0], dtype=torch.bool)
        return self.attention.scores(h[:, None], state.keys, every)[:, 0].softmax(dim=-1)

    def glimpse(self) -> Glimpse:
        """How the cells of a batch are read. Hard attention reads the likeliest cell, in training a drawn one or, for
        one batch in two, all of them, as soft attention does: that lowers the variance of its gradient."""
        if self.config.attention != "hard" or (self.training and torch.rand(()) < 0.5):
            return lambda alpha: alpha
        if self.training:
            return lambda alpha: F.one_hot(torch.multinomial(alpha, 1)[:, 0], alpha.shape[1]).to(alpha.dtype)
        return lambda alpha: F.one_hot(alpha.argmax(dim=-1), alpha.shape[1]).to(alpha.dtype)

    def look_and_write(self, before: Ids, state: Written, glimpse: Glimpse) -> tuple[Steps, Written]:
        """Read the words `before` the ones to predict, one after another."""
        words = embedded(self.words, "ids", before, len(WORDS))
        gates, rest, step = self.rnn.first.inputs(words), self.rnn.first.rest(words.shape[-1]), self.rnn.steps()
        collected = []
        for inputs in gates.unbind(dim=1):
            h = state.recurrent[0]
            alpha = self.weights(h, state)
            read = glimpse(alpha)
            context = torch.sigmoid(self.gate(h)) * (read[:, None] @ state.cells)[:, 0]
            state = state._replace(recurrent=step(inputs + rest(context), state.recurrent))
            collected.append((alpha, read, context, state.recurrent[0]))
        alphas, reads, contexts, states = (torch.stack(each, dim=1) for each in zip(*collected, strict=True))
        logits = self.output(torch.tanh(self.from_state(self.dropout(states)) + words + self.from_context(contexts)))
        return Steps(logits, alphas, reads), state

    def write(self, before: Ids, state: Written) -> tuple[Logits, Written]:
        steps, state = self.look_and_write(before, state, self.glimpse())
        return steps.logits, state

    def steps(self, inputs: Cells, ids: Ids) -> Steps:
        """Every word of `ids`, given the words before it."""
        return self.look_and_write(ids_before(ids), self.read(inputs), self.glimpse())[0]

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        """The cost of the words, in training with the `regularizer` of the attention."""
        ids, is_word = batch["ids"], batch["ids"] != PAD
        steps = self.steps(batch["inputs"], ids)
        cost = (F.cross_entropy(steps.logits.mT, ids, reduction="none") * is_word).sum(dim=1)
        total = cost.sum() + (self.regularizer(steps, cost.detach(), is_word) if self.training else 0)
        return {"ids": Loss(total, is_word.sum())}

    def regularizer(self, steps: Steps, cost: Float[Tensor, " batch"], is_word: Bool[Tensor, "batch time"]) -> Tensor:
        """Soft: λ Σ_i (1 - Σ_t α_ti)². Hard: what has the gradient of the expected cost of a caption,

            0.1 (cost - b) Σ_t log α_ts - 0.002 Σ_t H(α_t),        b <- 0.9 b + 0.1 cost

        (Williams 1992). Where α itself was read, the gradient of the first term is 0.
        """
        c, is_word = self.config, is_word[..., None]
        if c.attention == "mean":
            return cost.new_zeros(())
        if c.attention == "soft":
            return c.coverage * (1 - (steps.attention * is_word).sum(dim=1)).square().sum()
        log_alpha = steps.attention.clamp(min=1e-20).log() * is_word
        surprise = (cost - self.baseline) @ (steps.read.detach() * log_alpha).sum(dim=(1, 2))
        self.baseline.lerp_(cost.mean(), 1 - MEMORY)
        return REWARD * surprise + ENTROPY * (steps.attention * log_alpha).sum()


# The figures and the picture


def test_figures(model: CaptionWriter, rows: dict[str, Tensor]) -> dict[str, float]:
    unseen = {name: tensor[rows["held_out"]] for name, tensor in rows.items()}
    return {
        "exact caption": exact(model, rows),
        "beam 3": exact(model, rows, beam_size=3),
        "held-out pairs": exact(model, unseen),
        "attention on the noun's box": attention_on_boxes(model, rows),
    }


def exact(model: CaptionWriter, rows: dict[str, Tensor], *, beam_size: int = 1) -> float:
    """The share of captions that are right to the last word."""
    return exact_match(written(model, rows["inputs"], LONGEST, beam_size), rows["ids"])


@torch.inference_mode()
def attention_on_boxes(model: CaptionWriter, rows: dict[str, Tensor]) -> float:
    """The mean share of α that falls on the object of a noun as the noun is written, given the right words before."""
    alpha = model.eval().steps(rows["inputs"].to(model.device), rows["ids"].to(model.device)).attention.cpu()
    at_nouns = alpha[torch.arange(len(alpha))[:, None], rows["nouns"]]
    return (at_nouns * rows["boxes"]).sum(dim=-1).mean().item()


@torch.inference_mode()
def draw(models: Mapping[str, CaptionWriter], rows: dict[str, Tensor], path: Path) -> None:
    """Two test scenes with held-out pairs: the cells that each attention reads for each word that it writes."""
    from matplotlib.figure import Figure

    *attentive, (mean_name, mean_model) = models.items()
    shown = [row for row in torch.where(rows["held_out"])[0][:2].tolist() for _ in attentive]
    figure = Figure(figsize=(1.35 * LONGEST, 1.75 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), LONGEST, squeeze=False)
    for row, (name, model), (first, *panels) in zip(shown, attentive * 2, grid, strict=True):
        image, inputs = rows["images"][row], rows["inputs"][row : row + 1]
        [ids], [lost] = (written(each, inputs, LONGEST) for each in (model, mean_model))
        read = model.steps(inputs, torch.tensor([[*ids, EOS]])).read[0]
        for axes in (first, *panels[: len(ids)]):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, SIZE, SIZE, 0))
        for cells, word, axes in zip(read, ids, panels, strict=False):
            opacity = rearrange(0.8 * cells / cells.max(), "(y x) -> y x", y=SIDE).numpy()
            axes.imshow(opacity > 0, cmap="Reds", vmin=0, vmax=1.4, alpha=opacity, extent=(0, SIZE, SIZE, 0))
            axes.set_title(WORDS[word], fontsize=10)
        for axes in (first, *panels):
            axes.set(xticks=[], yticks=[], visible=bool(axes.images))
        first.set_title(name, fontsize=9, fontweight="bold")
        sentence = " ".join(WORDS[word] for word in lost)
        first.set_xlabel(f"{mean_name}:\n“{sentence}”", fontsize=8, loc="left", color="#c1121f")
    figure.suptitle("Which cells are read (red) as each word is written: a weighted mean (soft), or one (hard)")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
