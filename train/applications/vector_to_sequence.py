"""Vector to sequence: a recurrent network writes a date that it is given as four numbers.

The talk's first kind of recurrent network turns one vector into a sequence. The vector is (year, month, day, format).
The sequence is the date as a person writes it, letter by letter:

    h_0 = tanh(W [year; month; day; format] + b)        each of the four is a learned embedding
    h_t = GRU(letter_{t-1}, h_{t-1})                    p(letter_t) = softmax(V h_t + c)

No attention is needed: everything that the network has to know fits into h_0. The rival is a twin of the same size that
is not given the format. It cannot know which of several right strings is asked for.

python -m train.applications.vector_to_sequence
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn

from minitransformer import greedy
from minitransformer.checks import Count
from minitransformer.data.locales import write_date
from minitransformer.errors import InputError
from minitransformer.models.base import Config, Loss, Model, embedded, require_rows_of, target_loss
from minitransformer.models.rnn_cells import RecurrentStack
from minitransformer.plots import save_figure
from train.applications.rivals import ApplicationSettings, Contest, Rows, mean_loss
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

DAYS = range(date(1970, 1, 1).toordinal(), date(2019, 1, 1).toordinal())
# The talk's formats, but for the one with the weekday. To find the weekday of a new day is arithmetic, not writing.
FORMATS = ("d MMM y", "dd MMM y", "MMMM d y", "d MMMM y", "M/d/yy", "MMM d y", "d MM yy", "dd.MM.yy")
LETTERS = " ./0123456789abcdefghijklmnopqrstuvwxyz"
SIZES = (2018 - 1970 + 1, 12 + 1, 31 + 1, len(FORMATS))
"""How many values year, month, day and format have."""
PAD, BOS, EOS, FIRST_LETTER = 0, 1, 2, 3
LONGEST = len("30 september 1999") + 1

Vectors = Int[Tensor, "batch 4"]
Ids = Int[Tensor, "batch time"]


@dataclass(frozen=True)
class VectorToSequenceSettings(ApplicationSettings):
    """A GRU writes dates from (year, month, day, format), beside a twin that is not given the format."""

    settings_file: ClassVar[str] = "vector_to_sequence.json"

    lr: LearningRate = 3e-3
    days: Count = 4000
    """How many days to write, each in all eight formats. A tenth is for validation, another tenth for the test."""
    d_model: Count = 32
    """The width of each embedding."""
    hidden_size: Count = 128

    def validate(self) -> None:
        super().validate()
        if not 10 <= self.days <= len(DAYS):
            raise InputError(f"--days {self.days}: from 10 to {len(DAYS):,}, the days from 1970 to 2018")


def main(arguments: list[str] | None = None) -> None:
    run_job(VectorToSequenceSettings, "applications.vector_to_sequence", compare, arguments)


def compare(settings: VectorToSequenceSettings, folder: Path, console: Console) -> None:
    data = written_days(settings.days)
    sizes: dict[str, Any] = dict(d_model=settings.d_model, hidden_size=settings.hidden_size)

    def evaluate(model: "DateWriter") -> dict[str, float]:
        return {"exact match": exact_match(model, data["validation"]), "loss": mean_loss(model, data["validation"])}

    Contest(
        rivals={
            "given the format": lambda: DateWriter(DateWriterConfig(**sizes)),
            "format-blind": lambda: DateWriter(DateWriterConfig(**sizes, blind=True)),
        },
        data=lambda seed: Rows(data["train"], settings.batch_size, seed),
        evaluate=evaluate,
        score=lambda figures: (figures["exact match"], -figures["loss"]),
        test=lambda model: {"exact match": exact_match(model, data["test"])},
        draw=lambda models, path: draw(models, data["test"], path),
        steps=1500,
        options={"unit": "letters", "warmup_steps": 50},
    ).run(settings, folder, console)


# The data


def written_days(count: int) -> dict[str, dict[str, Tensor]]:
    """The splits; no day is in two of them. `vectors` are (year since 1970, month, day, number of the format)."""
    days = [date.fromordinal(day) for day in random.Random(0).sample(DAYS, count)]
    tenth = count // 10
    splits = {"test": days[:tenth], "validation": days[tenth : 2 * tenth], "train": days[2 * tenth :]}
    return {name: written(part) for name, part in splits.items()}


def written(days: list[date]) -> dict[str, Tensor]:
    pairs = [(day, form) for day in days for form in range(len(FORMATS))]
    vectors = torch.tensor([(day.year - 1970, day.month, day.day, form) for day, form in pairs])
    ids = torch.full((len(pairs), LONGEST), PAD)
    for row, (day, form) in enumerate(pairs):
        letters = [FIRST_LETTER + LETTERS.index(letter) for letter in write_date(day, FORMATS[form], "en")]
        ids[row, : len(letters) + 1] = torch.tensor([*letters, EOS])
    return {"vectors": vectors, "ids": ids}


def text_of(ids: Int[Tensor, " time"]) -> str:
    """The letters before the first EOS."""
    numbers = ids.tolist()
    end = numbers.index(EOS) if EOS in numbers else len(numbers)
    return "".join(LETTERS[number - FIRST_LETTER] for number in numbers[:end] if number >= FIRST_LETTER)


# The model


@dataclass(frozen=True)
class DateWriterConfig(Config):
    """`blind`: the format is not read."""

    d_model: int
    hidden_size: int
    blind: bool = False
    pad_id: int = PAD
    eos_id: int = EOS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("d_model", "hidden_size")


class Written(NamedTuple):
    """What decoding carries from step to step: the GRU's state (B, H)."""

    hidden: tuple[Float[Tensor, "batch hidden"], ...]

    def select(self, rows: Tensor) -> "Written":
        return Written(tuple(h[rows] for h in self.hidden))


class DateWriter(Model):
    """From a vector to the letters of a date."""

    config_class = DateWriterConfig

    def __init__(self, config: DateWriterConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = nn.ModuleList(nn.Embedding(size, c.d_model) for size in SIZES)
        self.first_state = nn.Linear(len(SIZES) * c.d_model, c.hidden_size)
        self.letters = nn.Embedding(FIRST_LETTER + len(LETTERS), c.d_model)
        self.rnn = RecurrentStack("gru", c.d_model, c.hidden_size, 1, dropout=0.0)
        self.output = nn.Linear(c.hidden_size, FIRST_LETTER + len(LETTERS))

    def read(self, vectors: Vectors) -> Written:
        """h_0."""
        if self.config.blind:
            vectors = vectors * torch.tensor([1, 1, 1, 0], device=vectors.device)
        parts = zip(self.embeddings, vectors.unbind(dim=1), SIZES, strict=True)
        rows = [embedded(table, "vectors", numbers, size) for table, numbers, size in parts]
        return Written((torch.tanh(self.first_state(torch.cat(rows, dim=-1))),))

    def forward(self, vectors: Vectors, ids: Ids) -> Float[Tensor, "batch time vocab"]:
        """The logits of each letter, given the letters before it."""
        before = torch.cat([torch.full_like(ids[:, :1], BOS), ids[:, :-1]], dim=1)
        gates = self.rnn.first.inputs(self.letters(before))
        step, state, states = self.rnn.steps(), self.read(vectors).hidden, []
        for inputs in gates.unbind(dim=1):
            state = step(inputs, state)
            states.append(state[0])
        return self.output(torch.stack(states, dim=1))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        is_letter = batch["ids"] != PAD
        logits = self(batch["vectors"], batch["ids"])[is_letter]
        return {"letters": Loss(target_loss(logits, batch["ids"][is_letter]), is_letter.sum())}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"letters": (batch["ids"] != PAD).sum()}

    @torch.no_grad()
    def start(
        self, inputs: Vectors, valid: Tensor | None = None, *, max_new_tokens: int
    ) -> tuple[Float[Tensor, "batch vocab"], Written]:
        return self.step(torch.full_like(inputs[:, 0], BOS), self.read(inputs))

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " batch"], state: Written) -> tuple[Float[Tensor, "batch vocab"], Written]:
        require_rows_of(state.hidden[0], ids=ids)
        hidden = self.rnn.steps()(self.rnn.first.inputs(self.letters(ids)), state.hidden)
        return self.output(hidden[0]), Written(hidden)


# The figures and the picture


def exact_match(model: DateWriter, rows: dict[str, Tensor]) -> float:
    """The share of strings that are right to the last letter."""
    found = greedy(model.eval(), rows["vectors"].to(model.device), max_new_tokens=LONGEST).cpu()
    return sum(text_of(ids) == text_of(right) for ids, right in zip(found, rows["ids"], strict=True)) / len(found)


@torch.inference_mode()
def draw(models: Mapping[str, DateWriter], rows: dict[str, Tensor], path: Path) -> None:
    """A test day before the tenth in every format, as each model writes it, on the probability of each letter."""
    from matplotlib.figure import Figure

    first = int((rows["vectors"][:, 2] < 10).int().argmax())
    vectors, right = (rows[name][first : first + len(FORMATS)] for name in ("vectors", "ids"))
    figure = Figure(figsize=(6 * len(models), 3.6), layout="constrained")
    for axes, (name, model) in zip(figure.subplots(1, len(models), squeeze=False)[0], models.items(), strict=True):
        ids = greedy(model, vectors, max_new_tokens=LONGEST)
        likely = model(vectors, ids).softmax(dim=-1).gather(2, rearrange(ids, "row time -> row time 1"))[..., 0]
        after_end = (ids == EOS).cumsum(dim=1) > 0
        image = axes.imshow(
            likely.masked_fill(after_end, float("nan")), vmin=0, vmax=1, cmap="YlGn", alpha=0.5, aspect="auto"
        )
        for row, (found, wanted) in enumerate(zip(map(text_of, ids), map(text_of, right), strict=True)):
            colour = "black" if found == wanted else "#c1121f"
            for place, letter in enumerate(found):
                axes.text(place, row, letter, ha="center", va="center", family="monospace", color=colour)
        axes.set_title(name)
        axes.set_yticks(range(len(FORMATS)), [text_of(wanted) for wanted in right], family="monospace", fontsize=8)
        axes.set_xticks([])
    figure.colorbar(image, ax=figure.axes, label="probability of the letter written")
    figure.suptitle("What was asked for (left), and what was written; red is wrong")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
