"""Files of data, written and loaded by the tests."""

import io
import json

import pyarrow
import pytest
from pyarrow import parquet

from minitransformer.data import load
from minitransformer.errors import InputError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_parquet(columns):
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def split_rows(split):
    """The rows as tuples, a label by its name."""
    columns = [split[name][:] for name in split.column_names]
    if "label" in split.column_names:
        place = split.column_names.index("label")
        columns[place] = split.features["label"].int2str(columns[place])
    return list(zip(*columns, strict=True))


def rows_of(corpus):
    """The rows of all splits, sorted."""
    return sorted(row for split in corpus.values() for row in split_rows(split))


def refused(path, *parts, **options):
    """That loading `path` is refused in one line that has all of `parts` in it."""
    with pytest.raises(InputError) as raised:
        load(path, **options)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
