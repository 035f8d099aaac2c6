"""Length generalisation: a small Transformer with each position scheme reads longer rows than it was trained on.

The task is associative recall (`minitransformer.data.recall`): a row such as "a3f7k0|f" is a list of pairs and a key,
and its answer is the value beside that key, here 7. A causal model solves it by an induction head: a head that attends
to the token before joins each value to its key, and another finds the key that is asked for (Olsson et al. 2022). The
models are trained on rows of few pairs and tested on more.

A learned table has a row for every position of the longest test, but those beyond the longest training row get no
gradient: they stay the random vectors that they were at the start.

python -m train.compare_positions
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor, nn

from minitransformer.blocks import EncoderBlock, Stack
from minitransformer.checks import Range
from minitransformer.data.recall import recall_pairs
from minitransformer.errors import InputError
from minitransformer.models.base import Config, Ids, Loss, Model, embedded, target_loss
from minitransformer.models.transformer_parts import attention_positions
from minitransformer.plots import learning_curves
from minitransformer.positions import LearnedPositions, SinusoidalPositions
from minitransformer.text_encoding import pad
from train.applications.rivals import ApplicationSettings, Contest, Size, Split, mean_loss
from train.engine.run_folder import run_job
from train.engine.settings import LearningRate, distinct

Positions = Literal["sinusoidal", "learned", "rotary", "alibi", "relative"]
SYMBOLS = ascii_lowercase + digits + "|"
PAD = 0
FEWEST, MOST = 2, len(ascii_lowercase)
"""Pairs of a row: there are only 260 rows of one pair, and each key is another letter."""
Pairs = Annotated[int, Range(at_least=FEWEST, at_most=MOST)]
HELD_OUT = 1000
"""Rows of validation data, which are as long as training rows, and test rows of each number of pairs."""


@dataclass(frozen=True)
class ComparePositionsSettings(ApplicationSettings):
    """Train a small causal Transformer with each position scheme on associative recall, and test it on more pairs."""

    settings_file: ClassVar[str] = "compare_positions.json"

    seeds: str | None = "0,1,2"
    """Train with each of these seeds, and show means and spreads."""
    lr: LearningRate = 3e-3
    pairs: Pairs = 8
    """Training rows have 2 to so many pairs."""
    test_pairs: str = "4,8,10,12,16,24"
    """The numbers of pairs of the test rows, separated by commas."""
    rows: Annotated[int, Range(at_least=100, at_most=1_000_000)] = 40_000
    """Training rows."""
    d_model: Size = 64
    num_heads: Size = 4
    num_layers: Size = 2

    def validate(self) -> None:
        super().validate()
        self.tested()

    def tested(self) -> list[int]:
        """The numbers of pairs of the test rows; `InputError` for anything else than numbers of letters."""
        names = distinct("--test-pairs", self.test_pairs)
        if wrong := [name for name in names if not name.isdecimal() or not FEWEST <= int(name) <= MOST]:
            said = f"whole numbers from {FEWEST} to {MOST}, separated by commas"
            raise InputError(f"--test-pairs {','.join(wrong)}: {said}")
        return list(map(int, names))


def main(arguments: list[str] | None = None) -> None:
    run_job(ComparePositionsSettings, "compare_positions", compare, arguments)


def compare(settings: ComparePositionsSettings, folder: Path, console: Console) -> None:
    longest = 2 * max(settings.pairs, *settings.tested()) + 2
    sizes = (settings.d_model, settings.num_heads, settings.num_layers, longest)
    configs = {name: ReaderConfig(name, *sizes) for name in get_args(Positions)}
    Contest(
        rivals={name: lambda config=config: Reader(config) for name, config in configs.items()},  # type: ignore[misc]
        data=recall_data(settings),
        evaluate=scores,
        best="right",
        test=by_pairs,
        draw=draw,
        steps=2000,
        unit="answers",
    ).run(settings, folder, console)


# The data


def recall_data(settings: ComparePositionsSettings) -> dict[str, Split]:
    """The splits. "test" has `ids` and `answers` of each number of pairs, under names such as "ids of 12"."""
    numbers = range(FEWEST, settings.pairs + 1)
    each = settings.rows // len(numbers) + 1
    texts = [row for pairs in numbers for row in recall_pairs(each, pairs=pairs, seed=0)]
    known, test = dict(texts), dict[str, Tensor]()
    for pairs in settings.tested():
        unseen = [row for row in recall_pairs(HELD_OUT, pairs=pairs, seed=1) if row[0] not in known]
        test |= {f"{name} of {pairs}": column for name, column in columns(unseen).items()}
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = min(HELD_OUT, len(texts) // 10)
    parts = {"validation": order[:held_out], "train": order[held_out:]}
    return {"test": test, **{name: columns([texts[row] for row in rows]) for name, rows in parts.items()}}


def columns(rows: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """`ids` (rows, time), padded on the right, and `answers` (rows,), a digit each."""
    ids = pad([[1 + SYMBOLS.index(letter) for letter in source] for source, _ in rows], PAD)
    return {"ids": ids, "answers": torch.tensor([digits.index(target[-1]) for _, target in rows])}


# The model


@dataclass(frozen=True)
class ReaderConfig(Config):
    """The sizes of a `Reader`, whose learned table has `max_length` rows."""

    positions: Positions
    d_model: int
    num_heads: int
    num_layers: int
    max_length: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("d_model", "num_heads", "num_layers", "max_length")
        self.require_multiple("d_model", "num_heads")


class Reader(Model):
    """Causal pre-norm blocks, which read a row and give the logits of its answer at the last token."""

    config_class = ReaderConfig

    def __init__(self, config: ReaderConfig):
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(1 + len(SYMBOLS), c.d_model)
        added = {"sinusoidal": SinusoidalPositions(c.d_model), "learned": LearnedPositions(c.max_length, c.d_model)}
        self.positions = added.get(c.positions)
        inside = attention_positions(c, bidirectional=False)
        block: dict[str, Any] = dict(pre_norm=True, causal=True, positions=inside, dropout=0.0)
        blocks = [EncoderBlock(c.d_model, c.num_heads, 4 * c.d_model, **block) for _ in range(c.num_layers)]
        self.blocks = Stack(blocks, nn.LayerNorm(c.d_model))
        self.output = nn.Linear(c.d_model, len(digits))

    def forward(self, ids: Ids) -> Float[Tensor, "batch digits"]:
        """Padding behind a row is not seen by the tokens before it, so that no mask is needed."""
        states = embedded(self.embedding, "ids", ids, 1 + len(SYMBOLS))
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        if self.positions is not None:
            states = states + self.positions(places)
        last = (ids != PAD).sum(dim=1) - 1
        states = self.blocks(states, position_ids=places)
        return self.output(states[torch.arange(len(ids), device=ids.device), last])

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        total = target_loss(self(batch["ids"]), batch["answers"])
        return {"recall": Loss(total, self.count_targets(batch)["recall"])}

    def count_targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"recall": torch.full((), len(batch["ids"]), device=batch["ids"].device)}


# The figures and the picture


@torch.inference_mode()
def right(model: Reader, ids: Int[Tensor, "rows time"], answers: Int[Tensor, " rows"]) -> float:
    """The share of rows whose likeliest digit is the answer."""
    guesses = model.eval()(ids.to(model.device)).argmax(dim=-1).cpu()
    return (guesses == answers).float().mean().item()


def scores(model: Reader, rows: Split) -> dict[str, float]:
    return {"right": right(model, rows["ids"], rows["answers"]), "loss": mean_loss(model, rows)}


def by_pairs(model: Reader, rows: Split) -> dict[str, float]:
    """The share of right answers for each number of pairs."""
    numbers = [name.removeprefix("ids of ") for name in rows if name.startswith("ids")]
    return {f"{pairs} pairs": right(model, rows[f"ids of {pairs}"], rows[f"answers of {pairs}"]) for pairs in numbers}


def draw(models: Mapping[str, Reader], rows: Split, path: Path) -> None:
    """A line for each scheme of the first seed: right answers against the number of pairs."""
    curves = {}
    for name, model in models.items():
        found = by_pairs(model, rows)
        curves[name] = sorted((int(pairs.split()[0]), share) for pairs, share in found.items())
    learning_curves(curves, path, xlabel="pairs in a test row", ylabel="right answers")


if __name__ == "__main__":
    main()
