"""The files that a run writes in place, in a folder that may be from elsewhere."""

import errno
import json
import os
import re
import stat
import warnings

import pytest
import torch

from minitransformer import InputError
from minitransformer.files import write_json
from train.engine import run_folder
from train.engine.metrics_file import MetricsFile, record_not_finite
from train.engine.run_folder import create_run, open_run
from train.engine.settings import Settings

DEEP = b"[" * 100_000


def test_links_are_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in (".lock", "metrics.jsonl"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(InputError, match=r"\.lock is a link"):
        run_folder.lock_run(tmp_path)
    with pytest.raises(InputError, match=r"metrics\.jsonl is a link"):
        MetricsFile(tmp_path / "metrics.jsonl").resume(0)
    assert precious.read_text() == "mine"


def test_a_pipe_in_the_place_of_a_file_of_a_run_is_refused_and_not_waited_for(tmp_path):
    create_run(run := tmp_path / "run", Settings(steps=3))
    for name, action in {
        ".lock": lambda: create_run(run, Settings(steps=3)),
        "metrics.jsonl": lambda: MetricsFile(run / "metrics.jsonl").resume(1),
        "results.json": lambda: open_run(Settings, "test", ["--resume", str(run)]),
        "config.json": lambda: open_run(Settings, "test", ["--resume", str(run)]),
    }.items():
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
        with pytest.raises(InputError, match=f"{name} is a pipe"):
            action()
        (run / name).unlink()
        create_run(run, Settings(steps=3))
    os.mkfifo(run / "not-finite.json")
    assert record_not_finite(run, torch.nn.Linear(1, 1), step=3, loss=1.0).is_file()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, number):
    def lockf(descriptor, flags):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_folder.fcntl, "lockf", lockf)
    with pytest.warns(UserWarning, match="cannot be locked"):
        run_folder.lock_run(tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (b'{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st', b'{"step": 1}\n{"step": 2}\n', None),  # what a kill leaves
        (
            b'{"step": 1}\n{"st\n{"step": 2}\n',
            b'{"step": 1}\n{"step": 2}\n',
            "do not count: 1; steps without a line: 0 of 2",
        ),
        (DEEP + b'\n{"step": 2}\n', b'{"step": 2}\n', "do not count: 1; steps without a line: 1 of 2"),
        (b'{"step": "1"}\n[]\n', b"", "do not count: 2; steps without a line: 2 of 2"),
        (b'{"step": 1}\n{"step": 2', b'{"step": 1}\n', "do not count: 0; steps without a line: 1 of 2"),
        (b"", b"", "do not count: 0; steps without a line: 2 of 2"),
    ],
)
def test_metrics_keep_their_good_lines_and_a_warning_counts_those_that_are_lost(before, after, says, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(before)
    with warnings.catch_warnings(record=True) as warned:
        MetricsFile(path).resume(2)
    assert path.read_bytes() == after
    assert len(warned) == (says is not None)
    assert not says or re.search(f"metrics.jsonl was changed since the run wrote it: .*{says}", str(warned[0]))


def test_a_record_of_batches_nested_too_deep_begins_again(tmp_path):
    (tmp_path / "not-finite.json").write_bytes(DEEP)
    path = record_not_finite(tmp_path, torch.nn.Linear(1, 1), step=3, loss=float("nan"))
    assert [entry["step"] for entry in json.loads(path.read_text())] == [3]


def test_what_a_killed_process_left_half_written_goes_when_the_run_goes_on(tmp_path):
    settings, run = Settings(steps=3), tmp_path / "run"
    create_run(run, settings)
    (run / "transformer").mkdir()
    left = [run / f".attention.png.{'0a' * 16}.part", run / "transformer" / f".model.safetensors.{'1b' * 16}.part"]
    mine = [run / ".attention.png.part", run / "transformer" / ".notes.12ab.part", run / "transformer" / "model.part"]
    for path in (*left, *mine):
        path.write_text("half")
    create_run(run, settings)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_flush_folders_will_do(tmp_path, monkeypatch, number, fails):
    plain = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if fails:
        with pytest.raises(OSError, match="Input/output error"):
            write_json(tmp_path / "a.json", 1)
    else:
        write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "a.json").read_text() == "1\n"
