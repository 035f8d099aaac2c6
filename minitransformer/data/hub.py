"""Data sets of the Hugging Face hub."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

import numpy as np

from minitransformer.data.class_labels import require_learnable
from minitransformer.data.columns import text_batches
from minitransformer.data.files import SPLIT_NAMES, table_splits
from minitransformer.data.headers import Wanted
from minitransformer.data.splits import warn_of_repeated
from minitransformer.data.tables import PAIR, Row, Table
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets


def load_from_hub(name: str, wanted: Wanted, seed: int) -> dict[str, "datasets.Dataset"]:
    """The data set NAME or NAME:CONFIGURATION, read as files are (see `files.table_splits`).

    Without a validation split, a random tenth of train becomes it, but for rows with a label that train would lack.
    Labels that are declared keep their order.
    """
    where = f"hub:{name}"
    tables = {split: _table(rows, f"{where}, {split}") for split, rows in _splits_called(name).items()}
    splits = table_splits(tables, wanted)
    if "validation" not in splits:
        splits |= _tenth_set_apart(splits["train"], seed)
    warn_of_repeated(splits, where)
    declared = getattr(splits["train"].features.get("label"), "names", None) in tables["train"].labels.values()
    require_learnable(splits, where, declared=declared)
    return splits


def _table(rows: "datasets.Dataset", where: str) -> Table:
    """A split. A label that is declared has its name, and one that is hidden (-1) is empty."""
    names_of = {name: kind.names for name, kind in rows.features.items() if hasattr(kind, "names")}

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        numbers = count(1)
        for batch in text_batches(rows, *chosen):
            for name in names_of.keys() & {*chosen}:
                known = dict(enumerate(names_of[name]))
                batch[name] = [known.get(label) for label in batch[name]]
            for values in zip(*(batch[name] for name in chosen), strict=True):
                yield next(numbers), values

    return Table(where, rows.column_names, read, (), f"hub {rows._fingerprint}", unit="row", labels=names_of)


def _tenth_set_apart(rows: "datasets.Dataset", seed: int) -> dict[str, "datasets.Dataset"]:
    import datasets

    halves = rows.train_test_split(test_size=0.1, seed=seed)
    train, validation = halves["train"], halves["test"]
    if "label" in rows.features:
        known = np.isin(validation.with_format("numpy")["label"][:], train.with_format("numpy")["label"][:])
        train = datasets.concatenate_datasets([train, validation.select(np.flatnonzero(~known))])
        validation = validation.select(np.flatnonzero(known))
    return {"train": train, "validation": validation}


def _splits_called(name: str) -> dict[str, "datasets.Dataset"]:
    """The splits of a data set by our names, {"train": ...}; `InputError` if there is no train split or no hub."""
    import datasets

    repository, _, configuration = name.partition(":")
    try:
        _ask_hub(repository)
        loaded = datasets.load_dataset(repository, configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot load {name} from the Hugging Face hub ({' '.join(str(error).split())}): without a network, "
            "give the path of a folder of train and validation files, or set HF_HUB_OFFLINE=1 for what is in the cache"
        ) from error
    splits: dict[str, datasets.Dataset] = {}
    if left_out := {*loaded} - {*chain(*SPLIT_NAMES.values())}:
        warnings.warn(f"hub:{name}: not read: {', '.join(sorted(left_out))}", stacklevel=4)
    for split, aliases in SPLIT_NAMES.items():
        rows = next((loaded[alias] for alias in aliases if alias in loaded), None)
        if rows is not None and PAIR in rows.column_names:
            rows = rows.flatten()
            rows = rows.rename_columns({column: column.removeprefix(f"{PAIR}.") for column in rows.column_names})
        splits |= {} if rows is None else {split: rows}
    if "train" not in splits:
        raise InputError(f"hub:{name} has no split called train; it has {list(loaded)}")
    return splits


def _ask_hub(repository: str) -> None:
    """One quick question to the hub: `load_dataset` tries an unreachable one again and again, for half a minute."""
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=10)
    except huggingface_hub.errors.OfflineModeIsEnabled:
        pass  # load_dataset then reads its cache, without asking
    except Exception as error:  # the HTTP client's own errors, whose classes change with huggingface_hub's version
        raise ConnectionError(str(error)) from error
