"""Tables in .parquet files, which may unpack to far more bytes than they have."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from minitransformer.data.tables import PAIR, Row, Table
from minitransformer.errors import InputError
from minitransformer.untrusted import damage_refused, shown

_MOST_UNPACKED = 2000
"""A file may unpack to this many times its bytes: repeated rows take next to no room in it."""


def parquet_table(path: Path) -> Table:
    from pyarrow.types import is_struct

    with _opened(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
        _require_flat_dictionaries(path, schema)
    names = list(schema.names)
    if PAIR in names and is_struct(schema.field(PAIR).type):
        names = [name for name in names if name != PAIR] + [field.name for field in schema.field(PAIR).type]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have one name in {shown(names)}")
    if count == 0:
        raise InputError(f"{path} has no rows")
    return Table(str(path), names, partial(_rows, path), (path,), ".parquet", unit="row")


def _rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    from pyarrow.compute import struct_field
    from pyarrow.types import is_dictionary

    place, room = 0, 1_000_000 + _MOST_UNPACKED * path.stat().st_size
    with _opened(path) as file:
        # No value is larger than its row group, so a batch of so many rows is no larger than the room there is.
        groups = [file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)]
        rows = room // max(1, *groups, 1)
        stored = [name if name in file.schema_arrow.names else PAIR for name in names]
        for batch in file.iter_batches(batch_size=max(1, min(rows, 1024)), columns=[*dict.fromkeys(stored)]):
            columns = []
            for name, column_name in zip(names, stored, strict=True):
                column = batch.column(column_name)
                # One value of a dictionary may stand in every row.
                plain = column.dictionary_decode() if is_dictionary(column.type) else column
                plain = plain if column_name == name else struct_field(plain, name)
                room -= plain.nbytes
                if room < 0:
                    raise InputError(f"{path} unpacks to over {_MOST_UNPACKED:,} times its size: it is refused")
                columns.append(plain.to_pylist())
            for values in zip(*columns, strict=True):
                place += 1
                yield place, values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. pyarrow's errors about a damaged file, of many classes, become `InputError`."""
    import pyarrow
    from pyarrow import parquet

    errors = pyarrow.ArrowException, OverflowError, MemoryError, TypeError, KeyError
    with (
        damage_refused(f"{path} is not readable as Parquet", *errors),
        parquet.ParquetFile(path, buffer_size=1 << 20) as file,  # without it a row group's column is read whole
    ):
        yield file


def _require_flat_dictionaries(path: Path, schema: Any) -> None:
    """`InputError` for a dictionary inside a list or the like: one of its rows may stand for any number of bytes."""
    from pyarrow.types import is_dictionary, is_nested

    for field in schema:
        kind = field.type.value_type if is_dictionary(field.type) else field.type
        if "dictionary<" in str(kind) or (kind is not field.type and is_nested(kind)):
            raise InputError(f"{path}: column {field.name!r} is of {shown(str(field.type))}, which is not read")
