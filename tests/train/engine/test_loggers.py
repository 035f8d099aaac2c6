"""Loggers: what they get, that they change nothing, and that a failing one stops nothing."""

import random
import re
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from helpers_runs import SMALL
from helpers_scripts import refused
from helpers_training import lines, run

from train.engine.pictures import log_pictures
from train.engine.tensorboard import TensorBoard
from train.finetune.__main__ import main as finetune
from train.pretrain.__main__ import main

SAMPLES = [{"sample": "to be"}]


class Listing:
    """Draws random numbers, too, as a client of a server may."""

    def __init__(self, folder=None):
        self.entries = []

    def log(self, step, values):
        torch.rand(3), random.random()
        self.entries.append((step, values))


class Failing:
    def log(self, step, values):
        raise ConnectionError("no route to host")


def test_a_logger_gets_every_step_evaluation_and_sample_and_changes_no_bit(tmp_path):
    listing = Listing()
    plain, _ = run(tmp_path / "plain", samples=lambda model: SAMPLES)
    logged, _ = run(tmp_path / "logged", samples=lambda model: SAMPLES, loggers=[listing])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), logged.parameters(), strict=True))
    assert lines(tmp_path / "plain") == lines(tmp_path / "logged")
    by_name = {}
    for step, values in listing.entries:
        for name in values:
            by_name.setdefault(name, []).append(step)
    every, evaluated = list(range(1, 13)), [3, 6, 9, 12]
    assert by_name == {
        **dict.fromkeys(("loss", "lr", "gradient_norm", "tokens_per_second"), every),
        **dict.fromkeys(("validation_loss", "samples"), evaluated),
    }


def test_a_logger_that_fails_is_said_once_and_counted_and_the_run_goes_on(tmp_path):
    listing = Listing()
    with pytest.warns(UserWarning) as caught:
        _, state = run(tmp_path, loggers=[Failing(), listing])
    assert state.finished and len(listing.entries) == 12 + 4
    assert [str(warning.message) for warning in caught if "--log" in str(warning.message)] == [
        "--log Failing failed (ConnectionError: no route to host): the run goes on",
        "--log Failing failed 16 times",
    ]


def test_a_logger_that_cannot_be_made_stops_nothing(tmp_path, monkeypatch):
    class Unmade(Listing):
        def __init__(self, folder):
            raise PermissionError("sign in first")

    monkeypatch.setitem(sys.modules, "my_logger", types.SimpleNamespace(Mine=Unmade))
    with pytest.warns(UserWarning, match="--log my_logger:Mine failed .PermissionError: sign in first"):
        assert run(tmp_path, log="my_logger:Mine")[1].finished


def test_the_recipe_for_weights_and_biases_logs_figures_samples_and_pictures(tmp_path, monkeypatch):
    """Its client is a stand-in."""
    logged = []
    client = types.SimpleNamespace(log=lambda values, *, step: logged.append((step, values)))
    options = {"dir": tmp_path, "name": tmp_path.name, "reinit": "create_new"}
    stand_in = types.SimpleNamespace(
        init=lambda **given: client if given == options else None, Image=lambda path: ("image", path)
    )
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    page = Path(__file__).parents[3] / "docs/faq.md"
    [recipe] = [block for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S) if "wandb" in block]
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 10
    module = types.ModuleType("my_logger")
    exec(recipe, vars(module))
    monkeypatch.setitem(sys.modules, "my_logger", module)
    run(tmp_path, samples=lambda model: SAMPLES, log="my_logger:Wandb")
    assert {"loss", "validation_loss", "samples"} <= {name for _, values in logged for name in values}
    (tmp_path / "attention.png").write_bytes(b"")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "results.json").write_text('{"steps": 12}')
    (tmp_path / "samples.jsonl").unlink()
    log_pictures("my_logger:Wandb", tmp_path)
    assert logged[-1] == (12, {"attention": ("image", str(tmp_path / "attention.png"))})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wandb", "--log wandb: give tensorboard, or MODULE:CLASS of a class with a method log(step, values)"),
        ("json:JSONEncoder", "--log json:JSONEncoder: give tensorboard, or MODULE:CLASS of a class with a method"),
        ("no_such_module:Mine", "--log no_such_module:Mine: No module named 'no_such_module'"),
    ],
)
def test_a_logger_that_is_not_there_is_refused_before_any_work(name, message, tmp_path, capsys):
    line = refused(capsys, ["gpt", "--log", name, "--out", str(tmp_path / "run")], main)
    assert message in line and not (tmp_path / "run").exists()


def test_without_tensorboard_one_line_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = refused(capsys, ["gpt", "--log", "tensorboard", "--out", str(tmp_path / "run")], main)
    assert "--log tensorboard: it is not installed: pip install 'minitransformer[tensorboard]'" in line


JOBS = {
    "gpt": (main, ["gpt", *SMALL, "--context", "8"], ["attention"]),
    "classifier": (finetune, ["--init", "scratch", *SMALL, "--no-baselines"], ["attention"]),
    "classifier without attention": (
        finetune,
        ["--init", "scratch", "--encoder", "rnn", "--pooling", "last", "--no-baselines"],
        [],
    ),
}


@pytest.mark.filterwarnings("error:--log")
@pytest.mark.parametrize("name", JOBS)
def test_tensorboard_shows_curves_samples_and_the_attention_of_a_run(name, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    job, flags, pictures = JOBS[name]
    texts = [f"ten green bottles {letter} hanging on the wall" for letter in "abcdefghijklmnopqrstuvwxyz"]
    data = tmp_path / ("text.txt" if name == "gpt" else "texts.tsv")
    rows = texts if name == "gpt" else [f"{text}\t{'odd' if i % 2 else 'even'}" for i, text in enumerate(texts)]
    data.write_text("\n".join(rows))
    run = ["--steps", "4", "--device", "cpu", "--data", str(data), "--out", str(tmp_path / "run")]
    job([*flags, *run, "--log", "tensorboard"])
    events = accumulator.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "lr", "validation_loss"} <= set(tags["scalars"]) and tags["images"] == pictures
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert "samples/text_summary" in tags["tensors"]


def test_tensorboard_shows_a_repeated_step_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((1, 2, 3), (2, 3, 4)):  # killed after step 3, resumed from step 1
        board = TensorBoard(tmp_path)
        for step in steps:
            board.log(step, {"loss": float(step)})
        board.writer.close()
        time.sleep(0.01 if steps[0] == 1 else 0)
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
