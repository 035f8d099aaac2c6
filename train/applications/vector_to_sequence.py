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
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Int
from rich.console import Console
from torch import Tensor, nn

from minitransformer import greedy
from minitransformer.checks import Count
from minitransformer.data.locales import write_date
from minitransformer.errors import InputError
from minitransformer.models.base import Memory, embedded
from minitransformer.models.rnn_cells import RecurrentStack
from minitransformer.models.rnn_decoders import Decoder, RNNState
from minitransformer.plots import save_figure
from minitransformer.text_encoding import pad
from train.applications.rivals import ApplicationSettings, Contest, Size, Split, mean_loss
from train.applications.writer import (
    EOS,
    FIRST,
    PAD,
    Ids,
    Logits,
    Writer,
    WriterConfig,
    exact_match,
    until_end,
    written,
)
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate

DAYS = range(date(1970, 1, 1).toordinal(), date(2019, 1, 1).toordinal())
# The talk's formats, but for the one with the weekday. To find the weekday of a new day is arithmetic, not writing.
FORMATS = ("d MMM y", "dd MMM y", "MMMM d y", "d MMMM y", "M/d/yy", "MMM d y", "d MM yy", "dd.MM.yy")
LETTERS = " ./0123456789abcdefghijklmnopqrstuvwxyz"
SIZES = (2018 - 1970 + 1, 12 + 1, 31 + 1, len(FORMATS))
"""How many values year, month, day and format have."""
VOCAB_SIZE = FIRST + len(LETTERS)
LONGEST = len("30 september 1999") + 1

Vectors = Int[Tensor, "batch 4"]


@dataclass(frozen=True)
class VectorToSequenceSettings(ApplicationSettings):
    """A GRU writes dates from (year, month, day, format), beside a twin that is not given the format."""

    settings_file: ClassVar[str] = "vector_to_sequence.json"

    lr: LearningRate = 3e-3
    days: Count = 4000
    """How many days to write, each in all eight formats. A tenth is for validation, another tenth for the test."""
    d_model: Size = 32
    """The width of each embedding."""
    hidden_size: Size = 128

    def validate(self) -> None:
        super().validate()
        if not 10 <= self.days <= len(DAYS):
            raise InputError(f"--days {self.days}: from 10 to {len(DAYS):,}, the days from 1970 to 2018")


def main(arguments: list[str] | None = None) -> None:
    run_job(VectorToSequenceSettings, "applications.vector_to_sequence", compare, arguments)


def compare(settings: VectorToSequenceSettings, folder: Path, console: Console) -> None:
    seeing = DateWriterConfig(settings.d_model, settings.hidden_size)
    Contest(
        rivals={
            "given the format": lambda: DateWriter(seeing),
            "format-blind": lambda: DateWriter(replace(seeing, blind=True)),
        },
        data=days_and_dates(settings.days),
        evaluate=figures,
        best="exact match",
        draw=draw,
        steps=1500,
        unit="letters",
    ).run(settings, folder, console)


# The data


def days_and_dates(count: int) -> dict[str, Split]:
    """The splits; no day is in two of them. `inputs` are (year since 1970, month, day, number of the format)."""
    days = [date.fromordinal(day) for day in random.Random(0).sample(DAYS, count)]
    tenth = count // 10
    splits = {"test": days[:tenth], "validation": days[tenth : 2 * tenth], "train": days[2 * tenth :]}
    return {name: in_all_formats(part) for name, part in splits.items()}


def in_all_formats(days: list[date]) -> Split:
    pairs = [(day, form) for day in days for form in range(len(FORMATS))]
    vectors = torch.tensor([(day.year - 1970, day.month, day.day, form) for day, form in pairs])
    texts = [write_date(day, FORMATS[form], "en") for day, form in pairs]
    ids = pad([[*(FIRST + LETTERS.index(letter) for letter in text), EOS] for text in texts], PAD)
    return {"inputs": vectors, "ids": ids}


def text_of(ids: Int[Tensor, " time"]) -> str:
    """The letters before the first EOS."""
    return "".join(LETTERS[number - FIRST] for number in until_end(ids.tolist()) if number >= FIRST)


# The model


@dataclass(frozen=True)
class DateWriterConfig(WriterConfig):
    """`blind`: the format is not read."""

    d_model: int
    hidden_size: int
    blind: bool = False


class DateWriter(Writer):
    """From a vector to the letters of a date."""

    config_class = DateWriterConfig

    def __init__(self, config: DateWriterConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = nn.ModuleList(nn.Embedding(size, c.d_model) for size in SIZES)
        self.first_state = nn.Linear(len(SIZES) * c.d_model, c.hidden_size)
        self.letters = nn.Embedding(VOCAB_SIZE, c.d_model)
        self.decoder = Decoder(RecurrentStack("gru", c.d_model, c.hidden_size, 1, dropout=0.0), c.hidden_size)
        self.output = nn.Linear(c.hidden_size, VOCAB_SIZE)

    def read(self, vectors: Vectors) -> RNNState:
        """h_0, which is all that the decoder knows of the vector."""
        if self.config.blind:
            vectors = vectors * torch.tensor([1, 1, 1, 0], device=vectors.device)
        parts = zip(self.embeddings, vectors.unbind(dim=1), SIZES, strict=True)
        rows = [embedded(table, "vectors", numbers, size) for table, numbers, size in parts]
        h = torch.tanh(self.first_state(torch.cat(rows, dim=-1)))
        states = rearrange(h, "batch hidden -> batch 1 hidden")
        return self.decoder.start(Memory(states, torch.ones_like(states[..., 0], dtype=torch.bool)), (h,))

    def write(self, before: Ids, state: RNNState) -> tuple[Logits, RNNState]:
        features, state = self.decoder(embedded(self.letters, "ids", before, VOCAB_SIZE), state)
        return self.output(features), state


# The figures and the picture


def figures(model: DateWriter, rows: Split) -> dict[str, float]:
    found = written(model, rows["inputs"], LONGEST)
    return {"exact match": exact_match(found, rows["ids"]), "loss": mean_loss(model, rows)}


@torch.inference_mode()
def draw(models: Mapping[str, DateWriter], rows: Split, path: Path) -> None:
    """A test day before the tenth in every format, as each model writes it, on the probability of each letter."""
    from matplotlib.figure import Figure

    first = int((rows["inputs"][:, 2] < 10).int().argmax())
    vectors, right = (rows[name][first : first + len(FORMATS)] for name in ("inputs", "ids"))
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
