"""Checkpoints, settings and whole run folders: damage is noticed, and a run that resumes ends as it would have."""

import os
import signal
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from fuzz.damage import files_in, fresh_copy, spoil
from fuzz.harness import Attack, WrongResultError, require
from fuzz.saved_models import gpt
from helpers_processes import Child, together
from helpers_runs import at_batch, ending, finish, job, write_corpora

from minitransformer.data.streams import StreamWindows
from minitransformer.errors import InputError
from train.engine.checkpoint import load_checkpoint, save_checkpoint
from train.engine.data_parallel import replicate
from train.engine.processes import Processes
from train.engine.run_folder import create_run, open_run
from train.engine.state import State
from train.engine.tensor_folder import require_undamaged
from train.pretrain.gpt.settings import GPTSettings

STATE = State(step=1, seconds=0.5, history=[{"step": 1, "seconds": 0.5, "loss": 2.0}], best_score=[-2.0], best_step=1)


def checkpoints(world_size: int, folder: Path):
    """Of one process, or of two that share the model in shards. Any changed byte is noticed; and one whose checksums
    hold, since a stranger made them, is read or refused."""
    whole = folder / "whole"

    def save(processes):
        model = gpt()
        optimizer = torch.optim.AdamW(model.parameters())
        replica = replicate(model, optimizer, processes, fsdp=world_size > 1)
        replica.loss({"ids": torch.zeros(1, 3, dtype=torch.long)})["lm"].total.backward()
        optimizer.step()
        save_checkpoint(whole, replica.model, optimizer, asdict(STATE))

    together(2, save) if world_size > 1 else save(Processes())
    contents = {file.name: file.read_bytes() for file in files_in(whole)}
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters())

    def strike(draw):
        broken = fresh_copy(whole, folder / "broken")
        spoil(draw, draw.choice(files_in(broken)))
        if draw.random() < 0.5:
            require_undamaged(broken)
            require({file.name: file.read_bytes() for file in files_in(broken)} == contents, "damage is not noticed")
        State.from_json(load_checkpoint(broken, model, optimizer), broken)

    return strike


def run_settings(folder: Path):
    """The settings of a run that is to be resumed."""
    create_run(folder / "whole", GPTSettings(steps=1, data="a.txt"))

    def strike(draw):
        broken = fresh_copy(folder / "whole", folder / "broken")
        spoil(draw, broken / "settings.json")
        open_run(GPTSettings, "pretrain gpt", ["--resume", str(broken)])

    return strike


def resumed_runs(name: str, folder: Path):
    """A file of a run folder damaged, of a run that was stopped and of one that has finished; then it is resumed."""
    data, run = write_corpora(folder), folder / "run"

    def stopped():
        at_batch(9, StreamWindows, lambda: os.kill(os.getpid(), signal.SIGTERM))
        job(name, data, run)()

    child = Child(folder / "said", stopped)
    if child.wait() != 143:
        raise RuntimeError(child.err.read_text())
    masters = {"stopped": fresh_copy(run, folder / "stopped")}
    usual = finish(job(name, data, run), folder / "said").err.read_text()
    expected, masters["finished"] = ending(run), fresh_copy(run, folder / "finished")

    def strike(draw):
        state = draw.choice(["stopped", "stopped", "finished"])
        fresh_copy(masters[state], run)
        damaged = draw.choice([file for file in files_in(run) if file.name != ".lock"])
        before = damaged.read_bytes()
        spoil(draw, damaged)
        if damaged.is_file() and damaged.read_bytes() == before:
            return
        said = outcome_of(job(name, data, run), folder / "said", usual)
        if damaged.name != "settings.json" and not said:  # other settings are another run
            differ = different(run, expected, matter=is_result if state == "finished" else lambda name: True)
            require(not differ, f"{damaged.name} of the {state} run was damaged, and {', '.join(differ)} differ")

    return strike


def is_result(name: str) -> bool:
    """What a finished run is for. It no longer needs its checkpoints; its figures are whatever results.json says."""
    return "checkpoints" not in name and name.endswith((".safetensors", "tokenizer.json"))


def different(run: Path, expected, matter=lambda name: True) -> list[str]:
    """The names of what a run left that is not as expected."""
    try:
        left = ending(run)
    except (ValueError, OSError) as error:
        raise WrongResultError(f"it ended well, but left what cannot be read: {error}") from error
    return sorted(name for name in {*left, *expected} if matter(name) and left.get(name) != expected.get(name))


def is_refusal(lines: list[str]) -> bool:
    """One line of ours, or what tyro says of a flag that it cannot read."""
    return len(lines) == 1 or "For full helptext" in " ".join(lines)


def outcome_of(action, folder: Path, usual: str = "") -> bool:
    """Whether the program warned of more than is usual; its one line as `InputError`, if that is what it ended with."""
    child = Child(folder, action)
    try:
        code = child.wait()
    except BaseException:  # it hangs
        child.kill()
        child.wait()
        raise
    lines = child.err.read_text().splitlines()
    others = [line for line in lines if not line.startswith("warning: ")]
    said = [line for line in lines if line not in others and line not in usual]
    if code == 2 and is_refusal(others):
        raise InputError(others[0])
    if code not in (0, 130) or others:
        raise AssertionError(f"exit code {code}: {child.err.read_text()[-3000:]}")
    for line in said:
        warnings.warn(line, stacklevel=2)
    return bool(said)


ATTACKS = [
    Attack("runs: checkpoints", partial(checkpoints, 1), share=8),
    Attack("runs: checkpoints in shards", partial(checkpoints, 2), share=4),
    Attack("runs: settings", run_settings, share=4),
    Attack("runs: damaged, then resumed", partial(resumed_runs, "gpt with muon"), share=1, seconds=60),
]
