import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitransformer.data.row_file import row_file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_CACHE", str(tmp_path))
    return tmp_path / "tokens"


def part(rows, num_columns=1):
    """Rows as a part of a file: their ids, and for each its length and numbers that follow from it."""
    columns = [[len(row) * (place + 1) for place in range(num_columns)] for row in rows]
    ids = [token for row in rows for token in row]
    return np.array(ids, dtype=np.int32), np.array(columns, dtype=np.int32).reshape(len(rows), num_columns)


ids = st.integers(-(1 << 15), (1 << 15) - 1)
parts = st.lists(st.lists(st.lists(ids, max_size=5), max_size=4), max_size=4)


@settings(deadline=None)
@given(parts, st.sampled_from([torch.int16, torch.int32]), st.integers(1, 3))
def test_what_comes_back_is_what_went_in(parts, dtype, num_columns):
    rows = [row for rows in parts for row in rows]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", folder)
        made = (part(rows, num_columns) for rows in parts)
        for make in (lambda: made, lambda: pytest.fail("is made again")):
            found = row_file("a", dtype, num_columns, make)
            assert found.ids.dtype == dtype
            assert found.columns.dtype == torch.int32
            assert found.columns.shape == (len(rows), num_columns)
            assert found.columns.tolist() == part(rows, num_columns)[1].tolist()
            lengths = found.columns[:, 0].tolist()
            assert [each.tolist() for each in found.ids.split(lengths)][: len(rows)] == rows
        assert len(list(Path(folder, "tokens").iterdir())) == 1


def test_a_file_that_is_there_is_not_written_again_and_is_that_of_its_name_and_kind(cache):
    for name in ("a", "b"):
        for dtype in (torch.int16, torch.int32):
            for num_columns in (1, 2):
                row_file(name, dtype, num_columns, lambda width=num_columns: iter([part([[1, 2], [3]], width)]))
    written = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(written) == 8
    assert row_file("a", torch.int16, 1, lambda: pytest.fail("is made again")).ids.tolist() == [1, 2, 3]
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == written


def test_a_torn_file_is_made_again_and_a_failed_one_leaves_nothing(cache):
    def make():
        return iter([part([[1, 2], []]), part([[3] * 20])])

    expected = row_file("a", torch.int16, 1, make)
    [file] = cache.iterdir()
    whole = file.read_bytes()
    for length in (0, 5, len(whole) - 2, len(whole) - 16):
        file.unlink()  # what is mapped stays as it was
        file.write_bytes(whole[:length])
        for found, before in zip(row_file("a", torch.int16, 1, make), expected, strict=True):
            assert torch.equal(found, before)
        assert file.read_bytes() == whole
    file.unlink()

    def failing():
        yield part([[1]])
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        row_file("a", torch.int16, 1, failing)
    assert list(cache.iterdir()) == []
