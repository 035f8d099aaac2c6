"""The files that a run writes in place, in a folder that may be from elsewhere."""

import errno
import json
import os
import re
import stat
import warnings
from functools import reduce

import pytest
import torch

from minitransformer import InputError
from minitransformer.files import write_json
from train.engine import run_folder
from train.engine.metrics_file import MetricsFile, chained, record_not_finite
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
        MetricsFile(tmp_path / "metrics.jsonl").resume(0, 0, "")
    assert precious.read_text() == "mine"


def test_a_pipe_in_the_place_of_a_file_of_a_run_is_refused_and_not_waited_for(tmp_path):
    create_run(run := tmp_path / "run", Settings(steps=3))
    for name, action in {
        ".lock": lambda: create_run(run, Settings(steps=3)),
        "metrics.jsonl": lambda: MetricsFile(run / "metrics.jsonl").resume(1, 0, ""),
        "results.json": lambda: open_run(Settings, "test", ["--resume", str(run)]),
        "config.json": lambda: open_run(Settings, "test", ["--resume", str(run)]),
        "not-finite.json": lambda: record_not_finite(run, torch.nn.Linear(1, 1), step=3, loss=1.0),
    }.items():
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
        with pytest.raises(InputError, match=f"{name} is a pipe"):
            action()
        (run / name).unlink()
        create_run(run, Settings(steps=3))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, number):
    def lockf(descriptor, flags):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_folder.fcntl, "lockf", lockf)
    with pytest.warns(UserWarning, match="cannot be locked"):
        run_folder.lock_run(tmp_path)


GOOD = b'{"step": 1, "loss": 2.5}\n{"step": 2}\n{"step": 2, "validation_loss": 0.5}\n'


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (GOOD + b'{"step": 3}\n{"st', GOOD, None),  # what a kill leaves
        (GOOD + b'{"step": 2, "averaged": [1], "validation_loss": 0.4}\n', ..., None),
        (b"{\n" + GOOD, GOOD, (1, 0, 0)),
        (DEEP + b"\n" + GOOD, GOOD, (1, 0, 0)),
        (b'{"step": "1"}\n[]\n', b"", (2, 2, 1)),
        (GOOD[25:], ..., (0, 1, 0)),
        (GOOD[:-1], GOOD[:37], (0, 0, 1)),
        (b"", b"", (0, 2, 1)),
        (b'{"step": 1}\n' + GOOD, ..., (0, 1, 0)),
        (GOOD + GOOD[37:], ..., (0, 0, 1)),
        (GOOD.replace(b"2.5", b"1.5"), ..., (0, 0, 0)),
        (GOOD.replace(b"0.5", b"0.4"), ..., (0, 0, 0)),
        (GOOD.replace(b"0.5", DEEP[:900] + b"]" * 900), ..., (0, 0, 0)),
    ],
)
def test_metrics_keep_their_good_lines_and_a_warning_counts_what_is_lost(before, after, lost, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(before)
    with warnings.catch_warnings(record=True) as warned:
        MetricsFile(path).resume(2, 1, reduce(chained, GOOD.splitlines(keepends=True), ""))
    assert path.read_bytes() == (before if after is ... else after)
    counts = [tuple(map(int, re.findall(r": (\d+)", str(warning.message).split("jsonl")[1]))) for warning in warned]
    assert counts == ([] if lost is None else [lost])


def test_metrics_of_a_run_that_starts_again_are_dropped_and_counted(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(GOOD)
    with pytest.warns(UserWarning, match="no checkpoint to resume from.*its 2 steps are dropped"):
        MetricsFile(tmp_path / "metrics.jsonl").resume(0, 0, "")
    assert not (tmp_path / "metrics.jsonl").read_bytes()


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
