"""Training in several processes: how batches are shared, what is written, and resuming with another number."""

import json
import os
import signal

import pytest
import torch
from helpers_processes import together
from helpers_training import Copying, lines, ruin, run
from hypothesis import given
from hypothesis import strategies as st

from minitransformer import GPT, GPTConfig, InputError
from minitransformer.optim import adamw
from train.engine.data_parallel import replicate
from train.engine.processes import Processes, check_device, joined
from train.engine.run_folder import create_run, open_run
from train.engine.settings import Settings
from train.engine.signals import TrainingInterrupted, stop_requests
from train.engine.state import State
from train.engine.training_data import batches_from

pytestmark = pytest.mark.usefixtures("as_users_run_it")


class Epochs:
    """Epochs of these lengths over and over; a row is (epoch, place)."""

    def __init__(self, lengths):
        self.lengths = lengths

    def epoch(self, number):
        return [[number, place] for place in range(self.lengths[number % len(self.lengths)])]

    def batch(self, rows):
        raise AssertionError("rows alone")


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.lists(st.sampled_from([1, 2, 3, 4, 6, 12]), min_size=1, max_size=5),
)
def test_every_batch_goes_to_one_process_in_order_whatever_their_number(lengths, world_sizes):
    """12 batches in a step; each part of the run has another number of processes."""
    data, state, dealt = Epochs(lengths), State(), []
    for world_size in world_sizes:
        states, parts = [], []
        for rank in range(world_size):  # each of them counts for itself
            states.append(State(epoch=state.epoch, position=state.position))
            batches = batches_from(data, states[-1])
            parts.append(Processes(rank, world_size).share([next(batches) for _ in range(12)]))
        assert {len(part) for part in parts} == {12 // world_size}
        assert all(s == states[0] for s in states)
        state = states[0]
        dealt += [batch for turn in zip(*parts, strict=True) for batch in turn]
    stream = batches_from(data, State())
    assert dealt == [next(stream) for _ in dealt]


def test_a_step_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(InputError, match=r"takes 4 batches, which 3 processes cannot share.*1, 2 or 4"):
        Processes(0, 3).share([1, 2, 3, 4])


def test_a_process_alone_meets_nobody(monkeypatch, capsys):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined() as processes:
        print("heard")
    assert processes == Processes() == Processes.current()
    assert processes.is_rank_0
    assert (processes.gather(3), processes.largest(1.5), processes.on_rank_0(lambda: 7)) == ([3], [1.5], 7)
    assert capsys.readouterr().out == "heard\n"


def test_several_processes_on_a_device_they_cannot_share_are_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    with pytest.raises(InputError, match=r"64 processes and \d+ GPUs.*--device cpu"):
        check_device(torch.device("cuda"))
    with pytest.raises(InputError, match="not on mps"):
        check_device(torch.device("mps"))


def test_a_run_remembers_how_many_processes_began_it(tmp_path):
    """So that its steps keep their size. No flag changes it."""

    def begin(_):
        settings, folder = open_run(Settings, "test", ["--out", str(tmp_path / "run"), "--steps", "3"])
        create_run(folder, settings)
        return settings.processes

    assert together(2, begin) == [2, 2]
    arguments = ["--resume", str(tmp_path / "run"), "--keep-checkpoints", "3"]
    settings, _ = open_run(Settings, "test", arguments)
    assert (settings.processes, settings.keep_checkpoints) == (2, 3)
    with pytest.raises(InputError, match="--fsdp: no effect in one process"):
        open_run(Settings, "test", [*arguments, "--fsdp"])
    with pytest.raises(SystemExit):
        open_run(Settings, "test", [*arguments, "--processes", "4"])
    # Without --out they agree on a name.
    assert len(set(together(2, lambda _: str(open_run(Settings, "test", [])[1])))) == 1


def test_ctrl_c_that_torchrun_passes_on_does_not_break_in(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(TrainingInterrupted), stop_requests() as stop_requested:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop_requested() == signal.SIGINT


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr=lr)


def trained(folder, *, stop_at=None, **options):
    """What a run of four batches a step leaves, or the signal that stopped it in this process's batch `stop_at`."""
    data = Copying({stop_at: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    defaults = dict(dropout=0.0, optimizer=sgd, lr=0.1, steps=8, accumulate=4, clip=0.5)
    try:
        model, state = run(folder, data=data, **{**defaults, **options})
    except TrainingInterrupted as interrupted:
        return {"signal": interrupted.number}
    return {"weights": dict(model.state_dict()), "history": [(e["step"], e["loss"]) for e in state.history]}


def require_same_run(folder, results, other_folder, alone):
    for line, expected in zip(lines(folder), lines(other_folder), strict=True):
        assert line == pytest.approx(expected, rel=1e-5)
    for result in results:
        assert result["history"] == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in alone["history"]]
        for name, tensor in alone["weights"].items():
            torch.testing.assert_close(result["weights"][name], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes_and_another_way_of_sharing(tmp_path):
    """A signal to one process of several stops them all."""
    alone = trained(tmp_path / "one")

    def part(world_size, stopped_rank, stop_at, **options):
        def work(processes):
            return trained(tmp_path / "cut", stop_at=stop_at if processes.rank == stopped_rank else None, **options)

        return together(world_size, work)

    assert part(2, 1, 5, fsdp=True) == [{"signal": signal.SIGTERM}] * 2
    assert trained(tmp_path / "cut", stop_at=6) == {"signal": signal.SIGTERM}
    assert part(4, 2, 1) == [{"signal": signal.SIGTERM}] * 4
    require_same_run(tmp_path / "cut", part(2, None, None, fsdp=True), tmp_path / "one", alone)


@pytest.mark.parametrize("fsdp", [False, True])
def test_a_run_of_two_processes_stopped_and_resumed_ends_bit_equal(tmp_path, fsdp):
    """With dropout and AdamW: each process's random state and all of the optimizer's come back."""
    options = dict(dropout=0.3, optimizer=adamw, lr=0.01, fsdp=fsdp)

    def both(processes):
        whole = trained(tmp_path / "whole", **options)
        first = trained(tmp_path / "cut", stop_at=7 if processes.rank == 0 else None, **options)
        return whole, first, trained(tmp_path / "cut", **options)

    for whole, first, second in together(2, both):
        assert first == {"signal": signal.SIGTERM}
        assert whole["history"] == second["history"]
        assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in whole["weights"].items())
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut")


def test_dropout_differs_between_processes():
    def masks(processes):
        torch.manual_seed(0)
        model = GPT(GPTConfig(9, 12, 8, 2, num_layers=1, eos_id=0, dropout=0.5))
        replicate(model, torch.optim.SGD(model.parameters(), lr=0.1), processes)
        return torch.nn.functional.dropout(torch.ones(64))

    first, second = together(2, masks)
    assert not torch.equal(first, second)


def test_processes_that_see_different_folders_are_refused(tmp_path):
    trained(tmp_path / "0", steps=2)

    def elsewhere(processes):
        try:
            trained(tmp_path / str(processes.rank), steps=4)
        except InputError as error:
            return str(error)

    assert all("not the same for all processes" in message for message in together(2, elsewhere))


def test_a_loss_that_is_not_finite_in_one_process_stops_all_and_names_the_rows_of_all(tmp_path):
    def ruined(_):
        with pytest.raises(InputError, match="at step 3") as refusal:
            trained(tmp_path, evaluate=ruin)
        return str(refusal.value)

    assert len(set(together(2, ruined))) == 1
    [entry] = json.loads((tmp_path / "not-finite.json").read_text())
    stream = batches_from(Copying(), State())
    assert sorted(entry["rows"]) == sorted([next(stream) for _ in range(12)][8:])
