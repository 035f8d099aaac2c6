"""The vanishing gradient: what a recurrent network still knows of its first letter after T steps.

The talk's warning. A change of the first state reaches the last one through all states between, so that its derivative
is a product with a factor for each step:

    ∂h_T/∂h_1 = ∂h_T/∂h_{T-1} · ... · ∂h_3/∂h_2 · ∂h_2/∂h_1         h_t = f(letter_t, h_{t-1})
    tanh RNN:  h_t = tanh(W x_t + b + U h_{t-1} + b')               ∂h_t/∂h_{t-1} = diag(1 - h_t²) U

Where the factors are smaller than 1, the product falls exponentially with T, and what the network should have kept
gets no gradient (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013). The gates of GRU and LSTM can keep the
factors near 1 for a while. Attention is a way of one step, whatever T is: c_T = Σ α_j h_j, and ∂c_T/∂h_1 has the term
α_1.

Whether this matters is seen on a copy task (after Hochreiter and Schmidhuber 1997): five letters, then noise, then the
five letters again. No rival has more parameters than the tanh RNN with attention, or fewer by more than a unit's.

python -m train.applications.vanishing_gradient
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product, takewhile
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn

from minitransformer.checks import Range
from minitransformer.models.base import Config, Loss, Model, embedded, target_loss
from minitransformer.models.rnn_cells import Cell, GRUCell, LSTMCell, State, Step
from minitransformer.plots import save_figure
from minitransformer.recurrent import Additive
from train.applications.rivals import ApplicationSettings, Contest, Size, Split, parameters_of
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

LETTERS, LENGTH = 8, 5
"""A string to copy is `LENGTH` of so many letters."""
NOISE = range(LETTERS, LETTERS + 4)
RECALL = NOISE.stop
"""The token that asks for the next letter of the string."""
SHORT = 10
"""The noise of the short task, which shows that a tanh RNN can copy."""
STEPS = (10, 20, 50, 100, 200, 300, 400, 500)
"""The T of the picture; the table has T = 100."""

Ids = Int[Tensor, "batch time"]
States = Float[Tensor, "batch time hidden"]


@dataclass(frozen=True)
class VanishingGradientSettings(ApplicationSettings):
    """‖∂h_T/∂h_1‖ of a tanh RNN, GRU, LSTM and attention, and what each can copy across noise."""

    settings_file: ClassVar[str] = "vanishing_gradient.json"

    lr: LearningRate = 3e-3
    noise: Annotated[int, Range(at_least=SHORT, at_most=1000)] = 100
    """How many letters of noise are between a string and its copy. A tanh RNN is also trained with 10."""
    d_model: Size = 16
    """The width of the letters' embedding."""
    hidden_size: Annotated[int, Range(at_least=4, at_most=4096)] = 64
    """Of the network with attention. The others get the size that gives them as many parameters."""


def main(arguments: list[str] | None = None) -> None:
    run_job(VanishingGradientSettings, "applications.vanishing_gradient", compare, arguments)


def compare(settings: VanishingGradientSettings, folder: Path, console: Console) -> None:
    data = strings_and_noise(settings.noise)
    attentive = CopierConfig("tanh", settings.d_model, settings.hidden_size, settings.noise, attention=True)
    lstm, gru, tanh = (as_large_as(attentive, cell) for cell in ("lstm", "gru", "tanh"))

    Contest(
        rivals={
            "attention": lambda: Copier(attentive),
            "LSTM": lambda: Copier(lstm),
            "GRU": lambda: Copier(gru),
            "tanh RNN": lambda: Copier(tanh),
            f"tanh RNN over {SHORT}": lambda: Copier(replace(tanh, noise=SHORT)),
        },
        data=data,
        evaluate=scores,
        best="copied",
        test=test_figures,
        draw=draw,
        steps=400,
        unit="letters",
    ).run(settings, folder, console)


# The data


def strings_and_noise(noise: int) -> dict[str, dict[str, Tensor]]:
    """The splits: each string of letters is in one of them, once, with noise of its own behind it."""
    generator = torch.Generator().manual_seed(0)
    strings = torch.tensor(list(product(range(LETTERS), repeat=LENGTH)))
    strings = strings[torch.randperm(len(strings), generator=generator)]
    ids = torch.cat([strings, random_noise(len(strings), noise, generator)], dim=1)
    return {"test": {"ids": ids[:1000]}, "validation": {"ids": ids[1000:2000]}, "train": {"ids": ids[2000:]}}


def random_noise(rows: int, length: int, generator: torch.Generator) -> Int[Tensor, "rows length"]:
    return torch.randint(NOISE.start, NOISE.stop, (rows, length), generator=generator)


# The model


class TanhCell(Cell):
    """h' = tanh(W x + b + U h + b') (Elman 1990): a recurrent network without gates."""

    gates = 1

    def steps(self) -> Step:
        weight, bias = self.weight_hh, self.bias_hh
        return lambda inputs, state: (torch.tanh(inputs + F.linear(state[0], weight, bias)),)


CellName = Literal["tanh", "gru", "lstm"]

CELLS: dict[CellName, type[Cell]] = {"tanh": TanhCell, "gru": GRUCell, "lstm": LSTMCell}


@dataclass(frozen=True)
class CopierConfig(Config):
    """`noise`: it reads so many letters of noise, and leaves out any that are behind them."""

    cell: CellName
    d_model: int
    hidden_size: int
    noise: int
    attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("d_model", "hidden_size", "noise")


class Copier(Model):
    """Reads a string and noise; then writes the string, a letter at each `RECALL`."""

    config_class = CopierConfig

    def __init__(self, config: CopierConfig):
        super().__init__()
        self.config = c = config
        self.letters = nn.Embedding(RECALL + 1, c.d_model)
        self.cell = CELLS[c.cell](c.d_model, c.hidden_size)
        self.attention = Additive(c.hidden_size, c.hidden_size, c.hidden_size // 2 or 1) if c.attention else None
        self.output = nn.Linear(c.hidden_size * (2 if c.attention else 1), LETTERS)
        self.init_weights()

    def init_weights(self) -> None:
        """Each cell starts as it remembers best. U is orthogonal, gate by gate. A gate with the bias log t keeps the
        state for about t steps; the units have different t, up to `noise`. That is the second gate of a GRU and of an
        LSTM. The first gate of an LSTM, which lets inputs in, has the opposite bias (Tallec and Ollivier 2018)."""
        c = self.config
        for weight in self.cell.weight_hh.split(c.hidden_size):
            nn.init.orthogonal_(weight)
        biases, keep = self.cell.bias_ih.data.split(c.hidden_size), torch.linspace(1, c.noise, c.hidden_size).log()
        if c.cell != "tanh":
            biases[1].copy_(keep)
        if c.cell == "lstm":
            biases[0].copy_(-keep)

    def step_by_step(self, ids: Ids, state: State) -> tuple[States, State]:
        """h_t after each of `ids`, and the last state."""
        step, states = self.cell.steps(), []
        for inputs in self.cell.inputs(embedded(self.letters, "ids", ids, RECALL + 1)).unbind(dim=1):
            state = step(inputs, state)
            states.append(state[0])
        return torch.stack(states, dim=1), state

    def features(self, states: States, queries: int) -> Float[Tensor, "batch queries features"]:
        """What the output layer sees at the last `queries` steps: h_t, or h_t and what attention reads of the states
        before them."""
        asking, memory = states[:, -queries:], states[:, :-queries]
        if self.attention is None:
            return asking
        valid = memory.new_ones(memory.shape[:2], dtype=torch.bool)
        return torch.cat([asking, self.attention(asking, self.attention.keys(memory), memory, valid)], dim=-1)

    def first_state(self, rows: int) -> State:
        return (self.output.weight.new_zeros(rows, self.config.hidden_size),) * self.cell.tensors

    def forward(self, ids: Ids) -> Float[Tensor, "batch 5 8"]:
        """The logits of the string's letters."""
        read = F.pad(ids[:, : LENGTH + self.config.noise], (0, LENGTH), value=RECALL)
        states, _ = self.step_by_step(read, self.first_state(len(ids)))
        return self.output(self.features(states, LENGTH))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        letters = batch["ids"][:, :LENGTH].flatten()
        logits = rearrange(self(batch["ids"]), "batch length letters -> (batch length) letters")
        return {"letters": Loss(target_loss(logits, letters), self.count_targets(batch)["letters"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"letters": torch.full((), LENGTH * len(batch["ids"]), device=batch["ids"].device)}


def as_large_as(config: CopierConfig, cell: CellName) -> CopierConfig:
    """A config without attention, with as many hidden units as the parameters of `config` allow."""
    most = parameters_of(lambda: Copier(config))
    configs = (replace(config, cell=cell, attention=False, hidden_size=size) for size in count(1))
    return list(takewhile(lambda config: parameters_of(lambda: Copier(config)) <= most, configs))[-1]


# The figures


def gradient(model: Copier, ids: Ids) -> Float[Tensor, "batch features state"]:
    """∂h_T/∂h_1 of each row, T being the length of `ids`. With attention h_T is (h_T, c_T), where attention reads all
    states before T; the h_1 of an LSTM is (h_1, c_1), both of its tensors."""
    with torch.no_grad():
        _, first = model.step_by_step(ids[:, :1], model.first_state(len(ids)))
    first = tuple(tensor.requires_grad_() for tensor in first)
    states, _ = model.step_by_step(ids[:, 1:], first)
    last = model.features(torch.cat([first[0][:, None], states], dim=1), 1)[:, 0]
    # Rows do not depend on one another: the gradient of a sum over rows has the gradient of each.
    each = repeat(torch.eye(last.shape[1]).to(last), "feature one -> feature batch one", batch=len(ids))
    parts = torch.autograd.grad(last, first, each, is_grads_batched=True)
    return rearrange(torch.cat(parts, dim=-1), "feature batch state -> batch feature state")


def gradient_norm(model: Copier, steps: int, rows: int = 4) -> Float[Tensor, ""]:
    """‖∂h_T/∂h_1‖ (the largest singular value) at the first `RECALL` after a string and noise, T = `steps`: the
    geometric mean over `rows` random strings. In float64, whose smallest number stands for smaller ones."""
    generator = torch.Generator().manual_seed(steps)
    string = torch.randint(LETTERS, (rows, LENGTH), generator=generator)
    ids = F.pad(torch.cat([string, random_noise(rows, steps - LENGTH - 1, generator)], dim=1), (0, 1), value=RECALL)
    norms = torch.linalg.matrix_norm(gradient(copy.deepcopy(model).double(), ids.to(model.device)), ord=2)
    return norms.clamp(min=torch.finfo(norms.dtype).tiny).log().mean().exp().cpu()


@torch.inference_mode()
def scores(model: Copier, rows: Split) -> dict[str, float]:
    """The share of letters that are copied (a guess: 1/8), and the loss in nats per letter."""
    ids = rows["ids"].to(model.device)
    logits, letters = model.eval()(ids), ids[:, :LENGTH]
    loss = target_loss(logits.flatten(0, 1), letters.flatten()) / letters.numel()
    return {"copied": (logits.argmax(dim=-1) == letters).float().mean().item(), "loss": loss.item()}


def test_figures(model: Copier, rows: Split) -> dict[str, float]:
    norm = gradient_norm(model, 100)
    return {"copied": scores(model, rows)["copied"], "log10 of gradient, T = 100": norm.log10().item()}


# The picture


def draw(models: Mapping[str, Copier], rows: Split, path: Path) -> None:
    """The norm of the gradient against T, trained and untrained; and how much each network copies."""
    from matplotlib import color_sequences
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle("Five letters, then noise: how much of the first state reaches the last one, and what is copied")
    norms, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    colours = color_sequences["petroff10"][: len(models)]
    longest = max(model.config.noise for model in models.values())
    for (name, model), colour in zip(models.items(), colours, strict=True):
        if model.config.noise == longest:  # the short one began like the other tanh RNN
            torch.manual_seed(0)
            norms.semilogy(STEPS, curve(Copier(model.config)), color=colour, linestyle=":")
        norms.semilogy(STEPS, curve(model), color=colour, marker="o", markersize=3, label=name)
    norms.set(xlabel="steps T", ylabel=r"$\Vert\partial h_T / \partial h_1\Vert$", ylim=(1e-40, 1e4))
    norms.set_title("Gradient of the last state (dotted: before training)", fontsize=10)
    norms.grid(alpha=0.3)
    norms.legend(frameon=False, loc="lower left")
    shares = [scores(model, rows)["copied"] for model in models.values()]
    bars.barh([f"{name}\n{model.config.noise} of noise" for name, model in models.items()], shares, color=colours)
    for place, share in enumerate(shares):
        bars.text(share + 0.02, place, f"{share:.0%}", va="center")
    bars.axvline(1 / LETTERS, color="black", linestyle=":")
    bars.invert_yaxis()
    bars.set(xlim=(0, 1.15), xticks=[])
    bars.set_title("Letters copied (dotted: a guess)", fontsize=10)
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    save_figure(figure, path)


def curve(model: Copier) -> Sequence[float]:
    return [gradient_norm(model, steps).item() for steps in STEPS]


if __name__ == "__main__":
    main()
