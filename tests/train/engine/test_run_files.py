"""The files that a run writes in place, in a folder that may be from elsewhere."""

import errno
import json
import os
import stat

import pytest
import torch

from minitransformer import InputError
from minitransformer.files import write_json
from train.engine import run_lock
from train.engine.metrics_file import MetricsFile
from train.engine.not_finite import record_not_finite
from train.engine.run_folder import create_run
from train.engine.settings import Settings

DEEP = b"[" * 100_000


def test_links_are_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in (".lock", "metrics.jsonl"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(InputError, match=r"\.lock is a link"):
        run_lock.lock_run(tmp_path)
    with pytest.raises(InputError, match=r"metrics\.jsonl is a link"):
        MetricsFile(tmp_path / "metrics.jsonl", 0)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, number):
    def lockf(descriptor, flags):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_lock.fcntl, "lockf", lockf)
    with pytest.warns(UserWarning, match="cannot be locked"):
        run_lock.lock_run(tmp_path)


def test_lines_nested_too_deep_are_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + DEEP + b"\n")
    MetricsFile(tmp_path / "metrics.jsonl", 2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'
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
