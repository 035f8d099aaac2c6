"""Tiny runs of the applications, what they refuse, and an application for tests of what all of them share."""

import json
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, NamedTuple
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from minitransformer.checks import Count
from train.applications.rivals import ApplicationSettings, Contest, mean_loss
from train.applications.writer import EOS, FIRST, Writer, WriterConfig, exact_match, written
from train.engine.run_folder import run_job


def run(application, folder, *flags, rivals=None):
    """Train the first so many `rivals`, or all, with `flags`; see that the loss falls and that there is a picture; the
    rows of `results.json`."""

    def contest(**fields):
        return Contest(**{**fields, "rivals": dict(islice(fields["rivals"].items(), rivals))})

    with patch.object(application, "Contest", contest):
        application.main(["--out", str(folder), "--device", "cpu", "--threads", "1", *flags])
    assert (folder / "picture.png").stat().st_size > 1000
    rows = json.loads((folder / "results.json").read_text())["rows"]
    for row in rows.values():
        for report in row.get("by_seed", {}).values():
            losses = [evaluation["loss"] for evaluation in report["validation"]]
            assert losses[-1] < losses[0]
    return rows


def refusal(main, flags, folder, capsys):
    """The one line with which a command refuses `flags` before it makes its run folder."""
    with pytest.raises(SystemExit) as exit_:
        main(["--out", str(folder), *flags.split()])
    assert exit_.value.code == 2 and not folder.exists()
    [line] = capsys.readouterr().err.splitlines()
    return line


@dataclass(frozen=True)
class EchoConfig(WriterConfig):
    size: int


class EchoState(NamedTuple):
    h: Tensor

    def select(self, rows):
        return EchoState(self.h[rows])


class Echo(Writer):
    """A tanh RNN that writes the two ids that it reads."""

    config_class = EchoConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.ids = nn.Embedding(FIRST + 4, config.size)
        self.mix, self.output = nn.Linear(2 * config.size, config.size), nn.Linear(config.size, FIRST + 4)

    def read(self, inputs):
        return EchoState(self.ids(inputs).sum(dim=1))

    def write(self, before, state):
        logits, h = [], state.h
        for each in self.ids(before).unbind(dim=1):
            h = torch.tanh(self.mix(torch.cat([h, each], dim=1)))
            logits.append(self.output(h))
        return torch.stack(logits, dim=1), EchoState(h)


def echo_rows():
    inputs = FIRST + torch.cartesian_prod(torch.arange(4), torch.arange(4))
    return {"inputs": inputs, "ids": nn.functional.pad(inputs, (0, 1), value=EOS)}


@dataclass(frozen=True)
class EchoSettings(ApplicationSettings):
    """Two sizes of `Echo`."""

    settings_file: ClassVar[str] = "echo.json"
    size: Count = 4


def echo(arguments):
    run_job(EchoSettings, "applications.echo", compare, arguments)


def compare(settings, folder, console):
    Contest(
        rivals={
            "as large": lambda: Echo(EchoConfig(settings.size)),
            "twice as large": lambda: Echo(EchoConfig(2 * settings.size)),
        },
        data=dict.fromkeys(("train", "validation", "test"), echo_rows()),
        evaluate=lambda model, rows: {
            "exact match": exact_match(written(model, rows["inputs"], 3), rows["ids"]),
            "loss": mean_loss(model, rows),
        },
        best="exact match",
        draw=lambda models, rows, path: path.touch(),
        steps=3,
        warmup_steps=1,
        unit="ids",
    ).run(settings, folder, console)
