"""Checksums of a run's data and of its `--init` model, so that it is not resumed with others."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from minitransformer.data import corpora
from minitransformer.data.document_files import digest_of, document_files
from minitransformer.data.files import SPLIT_NAMES, files_called
from minitransformer.errors import InputError
from minitransformer.files import sha256
from minitransformer.pipelines.translator import model_folder

NAMED = ("dates", "recall", *corpora.CORPORA)
DATA_KEY = "data_sha256"
"""The key of the data's fingerprint in the settings file of a run."""
INIT = "--init "
"""The prefix of the names of the `--init` model's files."""


def fingerprint(settings: Any) -> dict[str, str]:
    """`data_fingerprint`, and the SHA-256 of weights, configuration and tokenizer of the `--init` model."""
    files = model_files(getattr(settings, "init", None))
    return data_fingerprint(settings) | {f"{INIT}{file.name}": sha256(file) for file in files}


def data_fingerprint(settings: Any) -> dict[str, str]:
    """SHA-256 of every file of the corpora in `settings.data_names()`, by the file's name: its folder may change.

    A folder or glob of documents has one checksum. A corpus that is not a file is identified by its name: packages are
    fetched by checksum, and generated data follow from the seed. Dates follow from Babel's version too.
    """
    names = settings.data_names()
    suffixes = [f".{getattr(settings, side, None)}" for side in ("source", "target")]
    found: dict[str, str] = {}
    for place, name in enumerate(names, start=1):
        where = f"{place}/" if len(names) > 1 else ""
        path = Path(name).expanduser()
        documents = document_files(path) if settings.reads_documents and name not in NAMED else []
        if documents:
            found[f"{where}{path.name} ({len(documents)} files)"] = digest_of(documents)
            continue
        files = [] if name in NAMED else data_files(path, suffixes)
        if not files:
            found[where + name] = f"Babel {version('babel')}" if name == "dates" else "a name"
        for file in files:
            found[where + file.name] = sha256(file)
    return found


def data_files(path: Path, suffixes: list[str]) -> list[Path]:
    """The files of a corpus: one file, the files of a folder's splits, or aligned files with these suffixes; none if
    `path` is not there."""
    if path.is_file():
        return [path]
    stems = [stem for names in SPLIT_NAMES.values() for stem in names]
    files = files_called(path, stems) if path.is_dir() else files_called(path.parent, (path.name,))
    return [file for file in files if file.suffix in suffixes] or files


def model_files(folder: Path | None) -> list[Path]:
    """The files that a model is loaded from; none if the folder holds no model."""
    folder = None if folder is None else model_folder(folder)
    if folder is None or not (folder / "config.json").is_file():
        return []
    weights = [*folder.glob("*.safetensors")] or [folder / "pytorch_model.bin"]
    files = (folder / "config.json", *folder.glob("*tokenizer.json"), *weights)
    return sorted(file for file in files if file.is_file())


def require_same_data(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises `InputError` with what has changed."""
    changed = [
        f"{name} was {before.get(name, 'not there')} and is {now.get(name, 'not there')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise InputError(
            f"the data or --init model of {folder} changed: {'; '.join(changed)}; restore it, or start another run"
        )
