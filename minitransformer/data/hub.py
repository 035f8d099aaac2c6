"""Data sets of the Hugging Face hub."""

import warnings
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from minitransformer.data.class_labels import require_learnable, with_class_labels
from minitransformer.data.columns import text_batches
from minitransformer.data.files import SPLIT_NAMES
from minitransformer.data.headers import Wanted, choose_columns
from minitransformer.data.stored_rows import RowChecks
from minitransformer.data.tables import NothingLeftError
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets


def load_from_hub(name: str, wanted: Wanted, seed: int) -> dict[str, "datasets.Dataset"]:
    """The data set NAME or NAME:CONFIGURATION. Rows where a needed column is empty are dropped, with a counted warning.
    Without a validation split, a random tenth of train becomes it. Labels that are declared keep their order."""
    where = f"hub:{name}"
    splits, kept = _splits_called(name), dict[str, Any]()
    for split, rows in list(splits.items()):
        columns = choose_columns(rows.column_names, wanted, where)
        splits[split] = rows = rows.select_columns(list(columns)).rename_columns(columns)
        try:
            kept[split] = _places_kept(rows, RowChecks(where, columns, "row", f" of {split}"))
        except NothingLeftError as error:
            if split != "test":
                raise
            warnings.warn(f"{error}: test is left out", stacklevel=3)
            del splits[split]
    labelled = "label" in splits["train"].column_names
    declared = labelled and hasattr(splits["train"].features["label"], "names")
    splits = {split: rows if kept[split] is None else rows.select(kept[split]) for split, rows in splits.items()}
    if labelled and not declared:
        splits = with_class_labels(splits)
    if "validation" not in splits:
        halves = splits["train"].train_test_split(test_size=0.1, seed=seed)
        splits |= {"train": halves["train"], "validation": halves["test"]}
    if labelled:
        require_learnable(splits, where, declared=declared)
    return splits


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
    for split, aliases in SPLIT_NAMES.items():
        rows = next((loaded[alias] for alias in aliases if alias in loaded), None)
        if rows is not None and "translation" in rows.column_names:  # a pair as {"de": ..., "en": ...}
            rows = rows.flatten()
            rows = rows.rename_columns({column: column.removeprefix("translation.") for column in rows.column_names})
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


def _places_kept(rows: "datasets.Dataset", checks: RowChecks) -> np.ndarray | None:
    """The places of the rows without an empty column; None where these are all."""
    declared = getattr(rows.features.get("label"), "names", None)
    columns, dropped = list(checks.columns.values()), array("q")
    for batch in text_batches(rows, *columns):
        if declared is not None:  # a hidden label is -1
            known = range(len(declared))
            batch["label"] = [label if label in known else None for label in batch["label"]]
        for values in zip(*(batch[name] for name in columns), strict=True):
            if checks.texts(checks.rows + 1, values) is None:
                dropped.append(checks.rows - 1)
    checks.require_some()
    checks.warn()
    return np.delete(np.arange(len(rows)), np.asarray(dropped, dtype=np.int64)) if dropped else None
