"""Generated text of any size to measure with: running text, pairs, or labelled texts."""

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

BLOCK = 50_000
"""Lines that are drawn and written at once."""
VALIDATION_BYTES = 10_000
LABELS = (b"bad", b"fair", b"good")


def write_corpus(job: str, folder: Path, num_bytes: int) -> None:
    """Make the folder, with about `num_bytes` of training data for the job, and with a validation split.

    All data consists of the same lines in random order. In pairs each line always has the same partner, and in labelled
    texts the same label.
    """
    folder.mkdir()
    chance = random.Random(0)
    lines = made_up_lines(chance)
    labelled = [line.strip() + b"\t" + LABELS[number % 3] + b"\n" for number, line in enumerate(lines)]
    columns = {"translate": {"from": lines, "to": lines[::-1]}, "finetune": {"tsv": labelled}}.get(job, {"txt": lines})
    for split, size in (("train", num_bytes), ("validation", VALIDATION_BYTES)):
        if job == "finetune":
            (folder / f"{split}.tsv").write_bytes(b"text\tlabel\n")
        write_lines({folder / f"{split}.{suffix}": column for suffix, column in columns.items()}, size, chance)


def write_lines(columns: Mapping[Path, Sequence[bytes]], num_bytes: int, chance: random.Random) -> None:
    """Append randomly drawn rows, each column to its file, until the files have `num_bytes` together."""
    longest = sum(max(map(len, column)) for column in columns.values())
    with ExitStack() as stack:
        files = [(stack.enter_context(path.open("ab")), column) for path, column in columns.items()]
        while num_bytes > longest:
            chosen = chance.choices(range(100_000), k=min(BLOCK, num_bytes // longest))
            num_bytes -= sum(file.write(b"".join(column[row] for row in chosen)) for file, column in files)


def made_up_lines(chance: random.Random) -> list[bytes]:
    """100,000 lines of made-up words, with frequencies by Zipf's law."""
    letters = "etaoinshrdlucmfwypvbgkjqxzé"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(20_000)]
    chosen = chance.choices(words, [1 / rank for rank in range(1, len(words) + 1)], k=1_200_000)
    return [f"{' '.join(chosen[start : start + 12])}.\n".encode() for start in range(0, len(chosen), 12)]
