"""Rows as memory-mapped data sets: checked, written once into the cache folder and found there by their content."""

import errno
import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minitransformer.data.packages import cache_folder, make_writable
from minitransformer.data.tables import NothingLeftError, Table
from minitransformer.errors import InputError
from minitransformer.files import remove_abandoned, sha256, write_json

if TYPE_CHECKING:
    import datasets

_FORMAT = "1"
"""To be changed whenever other rows are made of the same files, so that those in the cache are made again."""
_ROWS_TOGETHER, _TEXTS_TOGETHER = 1000, 64
"""Rows that are written together, and so are in memory together: of pairs or labelled texts, and of texts, which may be
whole books."""
Generated = Generator[dict[str, Any], None, dict[str, Any]]
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass
class RowChecks:
    """The rows of a table, or of a split of the hub, one after another. `columns` is {name there: name here}."""

    where: object
    columns: Mapping[str, str]
    unit: str = "line"
    of: str = ""
    rows: int = 0
    dropped: int = 0
    first: list[int] = field(default_factory=list)
    """The places of the first five that are dropped."""

    def texts(self, place: int, values: Sequence[Any]) -> list[str] | None:
        """The values as texts; None, counted, if one is empty (a `format` may be). `InputError` for what is not text;
        a label may be a whole number."""
        texts, whole = [], True
        for (there, here), value in zip(self.columns.items(), values, strict=True):
            if isinstance(value, str):
                if not value.isascii() and _SURROGATES.search(value):  # JSON can spell half a character: "\\ud800"
                    raise self._refused(place, f"{there!r} holds half a character: {value[:100]!r}")
            elif value is None:
                value = ""
            elif here == "label" and isinstance(value, int):
                value = str(value)
            else:
                raise self._refused(place, f"{there!r} is {repr(value)[:100]}, which is not text")
            whole = whole and (here == "format" or (value != "" and not value.isspace()))
            texts.append(value)
        self.rows += 1
        if not whole:
            self.dropped += 1
            self.first += [place] if len(self.first) < 5 else []
        return texts if whole else None

    def _refused(self, place: int, what: str) -> InputError:
        return InputError(f"{self.where}, {self.unit} {place}{self.of}: {what}")

    def require_some(self) -> None:
        if self.dropped == self.rows:
            raise NothingLeftError(f"{self.where}: in each of the {self.rows} rows{self.of}, {self._empty()}")

    def warn(self) -> None:
        """How many rows were dropped and where the first ones are."""
        if self.dropped:
            places = ", ".join(map(str, self.first)) + (", ..." if self.dropped > 5 else "")
            dropped = f"dropped {self.dropped} of {self.rows} rows{self.of}, where {self._empty()}"
            warnings.warn(f"{self.where}: {dropped}: {self.unit} {places}", stacklevel=3)

    def _empty(self) -> str:
        return f"{' or '.join(there for there, here in self.columns.items() if here != 'format')} is empty"


def table_rows(table: Table, columns: Mapping[str, str]) -> "datasets.Dataset":
    """Columns of a table as text, {name there: name here}, without the rows where one that is needed is empty. A
    warning counts these, each time. `InputError` for values that are not text; `NothingLeftError` if no row is left."""

    def rows() -> Generated:
        checks = RowChecks(table.path, columns, table.unit)
        for place, values in table.read(list(columns)):
            if (texts := checks.texts(place, values)) is not None:
                yield dict(zip(columns.values(), texts, strict=True))
        checks.require_some()
        return {"count": checks.rows - checks.dropped, "dropped": checks.dropped, "first": checks.first}

    reading = table.reading, json.dumps(list(columns.items()))
    dataset, note = stored(table.files, reading, dict.fromkeys(columns.values(), "string"), rows)
    RowChecks(
        table.path, columns, table.unit, "", len(dataset) + note["dropped"], note["dropped"], note["first"]
    ).warn()
    return dataset


def stored(
    files: Sequence[Path], reading: Sequence[str], columns: Mapping[str, str], rows: Callable[[], Generated]
) -> tuple["datasets.Dataset", dict[str, Any]]:
    """The `rows` of some files as a memory-mapped data set with these `columns` (and their types), and the note that
    the generator returns at its end, with the `count` of rows.

    They are generated once. The name of the data set in the cache, which is its fingerprint, is a hash of the bytes of
    the files and of `reading`, which has to say all else that determines the rows. `datasets` locks it, writes it into
    a folder of another name, and renames the folder when it is whole.
    """
    import datasets
    import pyarrow

    before = [_identity(file) for file in files]
    what = json.dumps([_FORMAT, list(reading), [sha256(file) for file in files]])
    name = hashlib.sha256(what.encode()).hexdigest()[:32]
    folder = cache_folder() / "tables"
    make_writable(folder)
    note_path = folder / f"{name}.json"

    def generate() -> Iterator[dict[str, Any]]:
        remove_abandoned(folder.glob("generator/*/*.incomplete"))
        note = yield from rows()
        for file, identity in zip(files, before, strict=True):
            if _identity(file) != identity:  # the hash and the rows may be of different bytes
                raise InputError(f"{file} changed while it was read: start again")
        write_json(note_path, note)

    features = datasets.Features({column: datasets.Value(kind) for column, kind in columns.items()})
    together = _TEXTS_TOGETHER if {*columns} <= {"text", "continues"} else _ROWS_TOGETHER
    options = {"cache_dir": str(folder), "fingerprint": name, "writer_batch_size": together}
    for last_try in (False, True):
        try:
            with _no_progress_bars():
                dataset = datasets.Dataset.from_generator(generate, features, **options)
            note = json.loads(note_path.read_text(encoding="utf-8"))
            if len(dataset) == note["count"]:
                return dataset, note
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, InputError | OSError):
                raise error.__cause__ from None
            raise
        except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
            lost = isinstance(error, FileNotFoundError) or not isinstance(error, OSError) or error.errno is None
            if last_try or not lost:
                raise
        # It was complete when it was written, and is damaged.
        note_path.unlink(missing_ok=True)
        shutil.rmtree(folder / "generator" / f"default-fingerprint={name}", ignore_errors=True)
    raise OSError(errno.EIO, "rows that were just written cannot be read back", str(folder / name))


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
