"""Who of several processes goes first, and who speaks when something is wrong."""

import os
import time
from functools import partial

import pytest
import torch
from helpers_processes import Child, together
from torch.distributed import TCPStore

from minitransformer import InputError
from minitransformer.reporting import reported_to_user
from train.engine.processes import joined


def test_one_process_goes_first_and_the_others_find_what_it_left(tmp_path):
    made = tmp_path / "made"

    def find():
        alone = not made.exists()
        time.sleep(0.2)  # time enough for the other one, if it did not wait
        made.touch()
        return alone

    assert together(2, lambda processes: processes.local_rank_0_first(find)) == [True, False]


def agreement(processes, folder):
    def refuse():
        (folder / str(processes.rank)).touch()
        raise InputError("no such file")

    def outcome(method):
        try:
            method(refuse)
        except InputError:
            return "reported"
        except SystemExit as error:
            return error.code

    return {
        "gather": processes.gather(processes.rank),
        "largest": processes.largest(float(processes.rank), -1.0),
        "sum": processes.sum(torch.tensor([1, processes.rank])).tolist(),
        "on_rank_0": processes.on_rank_0(lambda: processes.rank),
        "refused": [outcome(processes.on_rank_0), outcome(processes.local_rank_0_first)],
    }


def test_processes_agree_and_only_the_first_tries_and_says_what_is_wrong(tmp_path):
    first, second = together(2, partial(agreement, folder=tmp_path))
    assert (first.pop("refused"), second.pop("refused")) == (["reported"] * 2, [2, 2])
    assert first == second == {"gather": [0, 1], "largest": [1.0, -1.0], "sum": [2, 1], "on_rank_0": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def started(rank, port, action):
    """In a child: `action` as a script that torchrun started as one of two."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(TORCHELASTIC_RUN_ID="x", TORCHELASTIC_USE_AGENT_STORE="True")
    torch.cuda.is_available = lambda: False
    with reported_to_user(), joined() as processes:
        action(processes)


@pytest.mark.parametrize("waits", [False, True], ids=["both fail", "one waits"])
def test_an_error_is_said_once_and_both_exit_with_2(waits, tmp_path):
    def action(processes):
        if waits and processes.rank == 1:
            processes.barrier()
        raise InputError("no such file")

    # As torchrun does, this process keeps what the two have in common.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = [Child(tmp_path / str(rank), partial(started, rank, store.port, action)) for rank in range(2)]
    codes = [child.wait() for child in children]
    said = "".join(child.err.read_text() for child in children)
    assert codes == [2, 2], said
    assert [line for line in said.splitlines() if "error" in line.lower()] == ["error: no such file"], said
    assert "Traceback" not in said
