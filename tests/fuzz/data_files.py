"""Files of data: what is read is what an independent plain reading of the same bytes gives, or is refused."""

import csv
import io
import json
import re
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow
from fuzz.damage import misplace, spoiled_bytes
from fuzz.harness import Attack, require
from pyarrow import parquet

from minitransformer import InputError
from minitransformer.data import load

# What splits lines, fields or words elsewhere, looks like nothing or like a number, or turns text around.
ODD_TEXTS = [
    "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\ufeff", "\u200b", "\u202e", "\xa0",
    '"', '""', "'", ",", ";", "\t", "\\", "\\n", "|", "#", "=1+1", "NA", "null", "nan", "None", "007", "1e5", "é", "猫",
    " ", "  ", "<s>", "[SEP]", "-",
]  # fmt: skip
Rows = list[tuple[str, str]]
UNCLEAR = [(None, None)]
"""A plain reading cannot tell: a header is damaged, for example."""


def odd_rows(draw, without=""):
    """Pairs with odd characters in them, each target once; now and then a side is empty."""

    def text(number):
        parts = [f"{number}", *draw.choices(ODD_TEXTS, k=draw.randrange(4)), draw.choice(["a", "b c", ""])]
        draw.shuffle(parts)
        return "".join(part for part in parts if not set(part) & set(without))

    rows = [(text(number), text(number)) for number in range(draw.randint(14, 30))]
    if draw.random() < 0.02:
        rows[3] = rows[3][0] * 200_000, rows[3][1]
    # A file does not tell its first character from the mark of an encoding.
    rows[0] = rows[0][0].lstrip("\ufeff"), rows[0][1].lstrip("\ufeff")
    for _ in range(draw.choice([0, 0, 1, 3])):
        rows[draw.randrange(len(rows))] = draw.choice([("", "x"), ("x", " "), ("", "")])
    return rows


# Writers of pairs, and for each a plain reading of its bytes: the rows, or an error if no row can be told for sure.


def write_csv(draw, path, rows):
    stream = io.StringIO(newline="")
    bare = any("\r" in side for row in rows for side in row)  # csv leaves it without quotes, where it is no text
    end, quoting = draw.choice(["\n", "\r\n"]), draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    quoting = csv.QUOTE_ALL if bare else quoting
    csv.writer(stream, lineterminator=end, quoting=quoting).writerows([("source", "target"), *rows])
    path.write_bytes(draw.choice([b"", b"", b"\xef\xbb\xbf"]) + stream.getvalue().encode())


def plain_csv(path):
    text = path.read_bytes().decode("utf-8-sig")
    if re.search("\r(?!\n)", text):  # CSV has no rule for a carriage return alone
        return UNCLEAR
    limit = csv.field_size_limit(1 << 30)
    try:
        rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    finally:
        csv.field_size_limit(limit)
    return two_columns(rows)


def write_tsv(draw, path, rows):
    end = draw.choice(["\n", "\r\n"])
    text = "".join(f"{source}\t{target}{end}" for source, target in [("source", "target"), *rows])
    path.write_bytes(draw.choice([b"", b"", b"\xef\xbb\xbf"]) + text.encode())


def plain_tsv(path):
    return two_columns([tuple(line.split("\t")) for line in plain_lines(path)])


def write_jsonl(draw, path, rows):
    escaped = draw.random() < 0.5
    lines = [json.dumps({"source": a, "target": b}, ensure_ascii=escaped) for a, b in rows]
    path.write_text("\n".join(lines) + draw.choice(["", "\n"]), encoding="utf-8", newline="")


def plain_jsonl(path):
    rows = [json.loads(line) if line.strip() else {} for line in plain_lines(path)]
    return [(row.get("source") or "", row.get("target") or "") for row in rows]


def write_parquet(draw, path, rows):
    columns = {"source": [a for a, _ in rows], "target": [b for _, b in rows]}
    parquet.write_table(pyarrow.table(columns), path, compression=draw.choice(["snappy", "none", "zstd"]))


def plain_parquet(path):
    table = parquet.read_table(path).to_pydict()
    return [*zip(*table.values(), strict=True)] if [*table] == ["source", "target"] else UNCLEAR


def write_aligned(draw, path, rows):
    for place, suffix in enumerate((".de", ".en")):
        text = "".join(f"{row[place]}{draw.choice(['', '', chr(13)])}\n" for row in rows)
        path.with_suffix(suffix).write_bytes(text.encode())


def plain_aligned(path):
    sides = [plain_lines(path.with_suffix(suffix)) for suffix in (".de", ".en")]
    return [*zip(*sides, strict=True)]


def plain_text(path):
    """A line ends with a line feed, which carriage returns may precede. In a file without any, these end lines."""
    text = path.read_bytes().decode("utf-8-sig")
    return re.sub("\r+\n", "\n", text) if "\n" in text else text.replace("\r", "\n")


def plain_lines(path):
    lines = plain_text(path).split("\n")
    return lines if lines[-1] else lines[:-1]


def two_columns(rows):
    header, *rows = rows
    # Empty fields beyond the header hold no text.
    rows = [row[:2] if not any(row[2:]) else row for row in rows]
    if any(len(row) not in (0, 2) for row in rows):
        raise ValueError("no table of two columns")
    return [row or ("", "") for row in rows] if header == ("source", "target") else UNCLEAR


FORMATS = {
    "csv": (write_csv, plain_csv, "\0"),
    "tsv": (write_tsv, plain_tsv, "\t\n"),
    "jsonl": (write_jsonl, plain_jsonl, ""),
    "parquet": (write_parquet, plain_parquet, ""),
    "aligned": (write_aligned, plain_aligned, "\n"),
}


PLAINLY_DAMAGED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error, pyarrow.ArrowException)


def spoil_bytes(draw, path):
    path.write_bytes(spoiled_bytes(draw, path.read_bytes()))


def pairs(name: str, folder: Path):
    """Rows written by a library, sound or then damaged."""
    write, plain, without = FORMATS[name]
    path = folder / ("pair" if name == "aligned" else f"pairs.{name}")
    files = [path.with_suffix(suffix) for suffix in (".de", ".en")] if name == "aligned" else [path]
    options = {"source": "de", "target": "en"} if name == "aligned" else {}

    def strike(draw):
        for file in files:
            remove(file)
        rows = odd_rows(draw, without)
        write(draw, path, rows)
        hurt, how, expected = draw.choice(files), draw.random(), rows
        if how < 0.55:
            spoil = misplace if how < 0.05 else spoil_bytes
            spoil(draw, hurt)
            try:
                expected = plain(path) if all(file.is_file() for file in files) else None
            except PLAINLY_DAMAGED:
                expected = None
        try:
            found, said = read(path, **options)
        except InputError as error:
            require(how < 0.55, f"a sound file is refused: {error}")
            raise
        compare(found, expected, said)

    return strike


def read(path, **options):
    """The pairs of all splits, and what was warned of, which is passed on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits = load(path, kind="pairs", **options)
    said = [str(warning.message) for warning in caught]
    for message in said:
        warnings.warn(message, stacklevel=2)
    return [(row["source"], row["target"]) for split in splits.values() for row in split], " ".join(said)


def compare(found: Rows, expected: Rows | None, said: str):
    if expected is None:
        # Where a plain reading fails, ours has read rows all the same: then it has to say what it did.
        require(bool(said), f"read {len(found)} rows of a file without a plain reading, without a word: {found[:3]!r}")
        return
    if any(not isinstance(side, str) for row in expected for side in row):
        return  # unclear, or numbers and the like: a rule of the reader's own
    whole = [row for row in expected if all(side.strip() for side in row)]
    dropped = len(expected) - len(whole)
    lost, made_up = folded(whole) - folded(found), folded(found) - folded(whole)
    require(not lost and not made_up, f"lost {[*lost][:3]!r}, made up {[*made_up][:3]!r}; said: {said or 'nothing'}")
    require(len(found) == len(set(found)), "a row is there twice")
    require(not dropped or re.search(rf"\b{dropped}\b", said), f"{dropped} rows are dropped; said: {said or 'nothing'}")


def folded(rows: Rows) -> set[tuple[str, ...]]:
    """Different rows, without the spaces around them, and with any line end as one."""
    return {tuple(re.sub("\r\n?", "\n", side).strip() for side in row) for row in rows}


def texts(folder: Path):
    """Running text: the rows joined are the file's characters."""

    def strike(draw):
        remove(path := folder / "text.txt")
        content = " ".join(side for row in odd_rows(draw) for side in row).encode()
        path.write_bytes(spoiled_bytes(draw, content) if draw.random() < 0.7 else content)
        if draw.random() < 0.05:
            misplace(draw, path)
        try:
            expected = plain_text(path) if path.is_file() else None
        except UnicodeDecodeError:
            expected = None
        splits = load(path)
        found = "".join(text for split in ("train", "validation") for text in splits[split]["text"])
        require(expected is not None, f"read {found[:100]!r} where there is no text")
        require(found == expected, f"{found[:200]!r} is not {expected[:200]!r}")

    return strike


def labels(folder: Path):
    """Labelled texts: as many rows of each label as there are in the file, whatever white space is around them."""

    def strike(draw):
        path = folder / f"labels.{draw.choice(['csv', 'tsv', 'jsonl'])}"
        names = draw.choice([["no", "yes"], ["0", "1", "2"], ["1", "-1"]])
        rows = []
        for number in range(draw.randint(30, 60)):
            text = f"{number} {draw.choice(ODD_TEXTS)} a".replace("\t", " ").replace("\0", " ")
            around = draw.choice(["{}", "{}", "{} ", " {}", "\xa0{}"])
            rows.append((text, around.format(names[number % len(names)])))
        write, _, _ = FORMATS[path.suffix[1:]]
        write(draw, path, rows)
        path.write_bytes(path.read_bytes().replace(b"source", b"text").replace(b"target", b"label"))
        splits = load(path, kind="labelled")
        found = Counter()
        for split in splits.values():
            found += Counter(split.features["label"].names[label] for label in split["label"])
        expected = Counter(label.strip() for _, label in rows)
        require(found == expected, f"{dict(found)}, not {dict(expected)}")

    return strike


def remove(path: Path):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


ATTACKS = [
    *(Attack(f"data: {name}", partial(pairs, name), share=8) for name in FORMATS),
    Attack("data: txt", texts, share=6),
    Attack("data: labelled", labels, share=4),
]
