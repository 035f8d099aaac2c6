"""Generated text, pairs and labelled texts of any size, to measure with."""

import random
from pathlib import Path


def made_up_lines(chance: random.Random) -> list[bytes]:
    """100,000 lines of made-up words, the common ones more often (Zipf)."""
    letters = "etaoinshrdlucmfwypvbgkjqxzé"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(20_000)]
    chosen = chance.choices(words, [1 / rank for rank in range(1, len(words) + 1)], k=1_200_000)
    return [f"{' '.join(chosen[start : start + 12])}.\n".encode() for start in range(0, len(chosen), 12)]


def write_text(path: Path, num_bytes: int) -> None:
    """Ever the same lines, drawn at random."""
    chance = random.Random(0)
    lines, left = made_up_lines(chance), num_bytes
    with path.open("wb") as file:
        while left > 0:
            block = b"".join(chance.choices(lines, k=50_000))
            left -= len(block)
            # What is too much is cut off, and half a character with it.
            file.write(block if left >= 0 else block[:left].decode(errors="ignore").encode())


def write_pairs(folder: Path, num_bytes: int) -> None:
    """The same as training text: every line has one that always goes with it. Some are validation."""
    folder.mkdir()
    chance = random.Random(0)
    lines = made_up_lines(chance)
    left, longest = num_bytes, 2 * max(map(len, lines))
    with (folder / "train.from").open("wb") as source, (folder / "train.to").open("wb") as target:
        while left > longest:
            chosen = chance.choices(range(len(lines)), k=min(50_000, left // longest))
            left -= source.write(b"".join(lines[number] for number in chosen))
            left -= target.write(b"".join(lines[-1 - number] for number in chosen))
    (folder / "val.from").write_bytes(b"".join(lines[:500]))
    (folder / "val.to").write_bytes(b"".join(lines[:-501:-1]))


def write_labelled(folder: Path, num_bytes: int) -> None:
    """The same as training texts of a table: every line has one of three labels, ever the same. Some are validation."""
    folder.mkdir()
    chance = random.Random(0)
    rows = [
        line.removesuffix(b"\n") + b"\t" + (b"bad", b"fair", b"good")[number % 3] + b"\n"
        for number, line in enumerate(made_up_lines(chance))
    ]
    left, longest = num_bytes, max(map(len, rows))
    with (folder / "train.tsv").open("wb") as file:
        file.write(b"text\tlabel\n")
        while left > longest:
            left -= file.write(b"".join(chance.choices(rows, k=min(50_000, left // longest))))
    (folder / "validation.tsv").write_bytes(b"".join([b"text\tlabel\n", *rows[:500]]))
