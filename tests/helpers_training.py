"""A small training run, for tests of the loop: its models, its data, and what it writes."""

import io
import json
import os
import signal
from itertools import count
from types import SimpleNamespace

import torch
from rich.console import Console

from minitransformer import RNNConfig, RNNSeq2Seq, Transformer, TransformerConfig
from minitransformer.optim import adamw
from train.engine.loop import train
from train.engine.processes import Processes
from train.engine.settings import LoopOptions

SIZES = dict(source_vocab_size=9, target_vocab_size=9, d_model=8, max_length=12)
BLOCKS = dict(num_heads=2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1)
MODELS = {
    "transformer": lambda dropout: Transformer(TransformerConfig(**SIZES, **BLOCKS, dropout=dropout)),
    "rnn": lambda dropout: RNNSeq2Seq(
        RNNConfig(**SIZES, hidden_size=8, attention="additive", bidirectional=True, dropout=dropout)
    ),
}


class Copying:
    """Twenty rows of uneven length whose target is their source; `at_batch` runs before the batch of that number."""

    def __init__(self, at_batch=None):
        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(1, 8, (20,), generator=generator)
        self.rows = [torch.randint(4, 9, (n,), generator=generator) for n in lengths.tolist()]
        self.at_batch, self.given = at_batch or {}, 0

    def epoch(self, number):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(number)).tolist()
        return [order[i : i + 4] for i in range(0, 20, 4)]

    def batch(self, rows):
        self.given += 1
        self.at_batch.get(self.given, lambda: None)()
        chosen = [self.rows[row] for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        source = pad(chosen, batch_first=True)
        target = [torch.cat([torch.tensor([2]), row, torch.tensor([3])]) for row in chosen]
        return {"source_ids": source, "source_valid": source != 0, "target_ids": pad(target, batch_first=True)}


def run(
    folder,
    kind="transformer",
    *,
    dropout=0.1,
    model=None,
    data=None,
    evaluate=None,
    samples=None,
    optimizer=adamw,
    lr=0.01,
    console=None,
    loggers=(),
    **changes,
):
    """Train for 12 steps with an evaluation after every third, unless `changes` say otherwise."""
    torch.manual_seed(0)
    model = model or MODELS[kind](dropout)
    held_out = Copying().batch([0, 1, 2])

    def validation_loss(model):
        assert Processes.current().is_rank_0
        with torch.no_grad():
            return {"loss": model.loss(held_out)["lm"].total.item()}

    state = train(
        model,
        optimizer(model, lr=lr),
        data or Copying(),
        LoopOptions(**{"lr": lr, "steps": 12, "warmup_steps": 2, "evaluations": 4, **changes}),
        folder,
        evaluate=evaluate or validation_loss,
        samples=samples,
        loggers=loggers,
        console=console or Console(file=io.StringIO()),
    )
    return model, state


def ruin(model):
    """An evaluation that leaves weights that are not finite."""
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    return {"loss": 0.0}


def scored(*losses):
    """Evaluations with these losses, whatever the model has learned."""
    left = iter(losses)
    return lambda model: {"loss": next(left)}


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def die():
    raise MemoryError


def take_a_second_a_step(monkeypatch):
    """The loop's clock counts its steps."""
    seconds = count()
    monkeypatch.setattr("train.engine.loop.time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))


def lines(folder):
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in metrics]
    assert all("seconds" in line for line in metrics)
    return timeless


def rates(folder):
    """The learning rate of each step."""
    return [line["lr"] for line in lines(folder) if "lr" in line]
