"""Splitting a corpus that comes without splits."""

import random
import warnings
from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import chain, combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minitransformer.data.cache_folder import cache_folder, made_once
from minitransformer.data.columns import text_batches, texts
from minitransformer.errors import InputError
from minitransformer.files import write_json
from minitransformer.untrusted import read_json

if TYPE_CHECKING:
    import datasets

PARTS = ("train", "validation", "test")
_REPEATED = len(PARTS)
_LABELS = 1 << 10
"""A key has room for so many labels. Two labels whose numbers differ by a multiple of it count as one."""


def grouped_split(
    rows: "datasets.Dataset", *, by: str, seed: int = 0, where: object = None
) -> dict[str, "datasets.Dataset"]:
    """Train, validation and test parts of which no two share a value of column `by`.

    Rows are deduplicated; the n distinct values of `by` are sorted, then shuffled by `random.Random(seed)`; rows with
    the first n // 10 values are test, with the next n // 10 validation, and all others train, in their old order. But
    values with a `label` that train would lack are train. With `where`, a warning counts the rows that are dropped.

    Each part is `rows.select(...)`. In memory a row takes a few numbers of 8 bytes, whatever its length. The number of
    each row's part is kept beside rows that are in the cache, so that they are sorted and hashed only once.
    """
    lead = "" if where is None else f"{where}: "
    if rows.cache_files:
        folder = cache_folder() / "tables" / f"{rows._fingerprint}-{_marked(by, seed)}"
        made_once(folder, lambda folder: _parts(rows, by, seed, lead).tofile(folder / "parts"))
        parts = np.fromfile(folder / "parts", dtype=np.uint8)
    else:
        parts = _parts(rows, by, seed, lead)
    repeated = int((parts == _REPEATED).sum())
    if repeated and where is not None:
        warnings.warn(f"{lead}dropped {repeated} of {len(parts)} rows, which repeat an earlier one", stacklevel=3)
    return {
        part: rows.select(
            np.flatnonzero(parts == number), new_fingerprint=f"{rows._fingerprint}-{_marked(by, seed, part)}"
        )
        for number, part in enumerate(PARTS)
    }


def warn_of_repeated(splits: Mapping[str, "datasets.Dataset"], where: object) -> None:
    """A warning counts the rows of a split whose text, or whose source and target, stand in an earlier split, too, and
    the texts that have several labels.

    The counts are kept in the cache. Where they are not there, counting takes about 20 bytes of memory a row.
    """
    columns = [name for name in splits["train"].column_names if name in ("text", "source", "target")]

    def count() -> dict[str, int]:
        keys = {split: _keys(rows, columns) for split, rows in splits.items()}
        for of_split in keys.values():
            of_split.sort()
        shared = {
            f"{len(keys[split]):,} {split} rows also stand in {other}": _num_found(keys[split], keys[other])
            for other, split in combinations(keys, 2)
        }
        return shared | _with_several([*keys.values()])

    name = "repeated-" + _marked(*((split, rows._fingerprint) for split, rows in splits.items()))
    folder = made_once(cache_folder() / "tables" / name, lambda folder: write_json(folder / "counts", count()))
    if found := [f"{number:,} of {what}" for what, number in read_json(folder / "counts").items() if number]:
        warnings.warn(f"{where}: {', and '.join(found)}", stacklevel=3)


def _keys(rows: "datasets.Dataset", columns: Sequence[str]) -> NDArray[np.int64]:
    """Of each row, a hash of its text, whose last bits are the number of its label, 0 without one."""
    (keys,) = _hashes(rows, columns)
    keys &= -_LABELS
    if "label" in rows.column_names:
        keys |= _labels(rows) % _LABELS
    return keys


def _labels(rows: "datasets.Dataset") -> NDArray[np.int32]:
    return np.fromiter(texts(rows, "label"), np.int32, len(rows))


def _with_several(keys: Sequence[NDArray[np.int64]]) -> dict[str, int]:
    """How many texts have several labels."""
    merged = np.concatenate(keys)
    merged.sort()
    other_row = merged[1:] != merged[:-1]
    merged &= -_LABELS
    same_text = merged[1:] == merged[:-1]
    several = np.unique(merged[1:][same_text & other_row])
    return {f"{len(merged) - same_text.sum():,} texts have several labels": len(several)}


def _num_found(keys: NDArray[np.int64], among: NDArray[np.int64]) -> int:
    """How many of the keys are of a text that is among the others, which are sorted."""
    first, end = (keys & -_LABELS), (keys | _LABELS - 1)
    return int((np.searchsorted(among, end, "right") > np.searchsorted(among, first)).sum())


def _marked(*what: object) -> str:
    """A short name for how rows are split."""
    return blake2b(repr(what).encode(), digest_size=8).hexdigest()


def _parts(rows: "datasets.Dataset", by: str, seed: int, lead: str) -> NDArray[np.uint8]:
    """The number in `PARTS` of each row's part; `_REPEATED` for rows that repeat an earlier one."""
    from pyarrow.compute import sort_indices

    # UTF-8 sorts by its bytes as text does by its code points.
    order = sort_indices(rows.data.column(by)).to_numpy()
    # In this order two hashes are enough to tell apart neighbouring values, and below the few rows of one value.
    hashes, row_hashes = _hashes(rows, [by], rows.column_names)
    hashes = hashes[order]
    begins = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
    values = np.empty(len(order), dtype=np.int64)
    values[order] = np.cumsum(begins) - 1
    del hashes, order

    places = array("q", range(begins.sum()))
    tenth = len(places) // 10
    if tenth == 0:
        raise InputError(
            f"{lead}{len(places)} distinct values of {by!r} are too few to split (10 at least): "
            "give a folder with train and validation files"
        )
    random.Random(seed).shuffle(places)
    part_of = np.full(len(places), PARTS.index("train"), dtype=np.uint8)
    part_of[places[:tenth]] = PARTS.index("test")
    part_of[places[tenth : 2 * tenth]] = PARTS.index("validation")
    parts = part_of[values]
    if "label" in rows.features:
        labels = _labels(rows)
        lacking = ~np.isin(labels, labels[parts == PARTS.index("train")])
        parts[np.isin(values, values[lacking])] = PARTS.index("train")
        if not all((parts == number).any() for number in range(len(PARTS))):
            raise InputError(
                f"{lead}hardly a label has several texts, so that none is left to test on: give a folder with train "
                "and validation files"
            )

    # Equal rows are neighbours then, the first one before the others.
    order = np.lexsort((row_hashes, values))
    values, row_hashes = values[order], row_hashes[order]
    parts[order[1:][(values[1:] == values[:-1]) & (row_hashes[1:] == row_hashes[:-1])]] = _REPEATED
    return parts


def _hashes(rows: "datasets.Dataset", *groups: Sequence[str]) -> list[NDArray[np.int64]]:
    """Of each row, a hash of its values in each group of columns."""
    hashes, start = [np.empty(len(rows), dtype=np.int64) for _ in groups], 0
    for batch in text_batches(rows, *dict.fromkeys(chain.from_iterable(groups))):
        for columns, found in zip(groups, hashes, strict=True):
            values = [repr(row).encode() for row in zip(*(batch[name] for name in columns), strict=True)]
            # Python's own hashes differ between processes.
            digests = b"".join(blake2b(value, digest_size=8).digest() for value in values)
            found[start : start + len(values)] = np.frombuffer(digests, dtype=np.int64)
        start += len(values)
    return hashes
