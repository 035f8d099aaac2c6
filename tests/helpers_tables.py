"""Files of data, written and loaded by the tests."""

import io
import json
import warnings
from itertools import pairwise

import pyarrow
import pytest
from pyarrow import parquet

from minitransformer.data import load
from minitransformer.errors import InputError

PAIRS = [(f"human {i}", f"iso {i}") for i in range(20)]
LABELLED = [(f"text {i}", "good" if i % 3 else "bad") for i in range(30)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_rows(path, *rows):
    """A .csv file, or one with tabs."""
    mark = "," if path.suffix == ".csv" else "\t"
    return write(path, "".join(mark.join(map(str, row)) + "\n" for row in rows))


def as_parquet(columns):
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def in_blocks(text, cuts):
    """A text cut at these places."""
    cuts = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(cuts)] or [""]


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


def loaded(path, **options):
    """The rows of all splits, sorted, and what is said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = rows_of(load(path, **options))
    return rows, " ".join(str(warning.message) for warning in caught)


def refused(path, *parts, **options):
    """That loading `path` is refused in one line that has all of `parts` in it."""
    with pytest.raises(InputError) as raised:
        load(path, **options)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
