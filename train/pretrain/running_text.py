"""The text that a model is pretrained on, by split."""

from collections.abc import Mapping
from pathlib import Path

import datasets

from minitransformer.data import load
from minitransformer.data.columns import texts
from minitransformer.data.files import text_files
from minitransformer.data.running_text import Texts, count_characters, last_tenth_of_file, part_of_file
from minitransformer.errors import InputError


def read_corpus(name: str) -> Mapping[str, datasets.Dataset]:
    """The splits of a corpus that has a column `text`."""
    corpus = load(name)
    if "text" not in corpus["train"].column_names:
        raise InputError(f"--data {name} holds no running text: it has {corpus['train'].column_names}")
    return corpus


def read_texts(name: str) -> Mapping[str, Texts]:
    """The splits of a corpus as running text. A .txt file, or a folder of such, is read in blocks as often as needed,
    and is never in memory whole."""
    path = Path(name).expanduser()
    if path.suffix.lower() == ".txt" and path.is_file():
        return last_tenth_of_file(path)
    files = text_files(path)
    if files:
        return {split: part_of_file(file, 0, count_characters(file)) for split, file in files.items()}
    return {split: _texts_of(table) for split, table in read_corpus(name).items()}


def _texts_of(table: datasets.Dataset) -> Texts:
    return Texts(lambda: ((text,) for text in texts(table, "text")))
