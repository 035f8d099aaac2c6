"""Generated text of any size to measure with: running text, pairs, or labelled texts."""

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

BLOCK = 50_000
"""Lines that are drawn and written at once."""
WORDS = 12
"""Words in a line."""
VALIDATION_BYTES = 10_000
LABELS = (b"bad", b"fair", b"good")


def write_corpus(job: str, folder: Path, num_bytes: int) -> None:
    """Make the folder, with about `num_bytes` of training data for the job, and with a validation split.

    All data consists of the same lines in random order. In pairs each line always has the same partner, and in labelled
    texts the same label.
    """
    folder.mkdir()
    chance = random.Random(0)
    lines = list(islice(made_up_lines(chance), 100_000))
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


def write_running_text(folder: Path, num_bytes: int) -> None:
    """Make the folder, with about `num_bytes` of running text in `train.txt`, and with a validation split.

    Every line is drawn for its place, so that a longer text goes on with new lines where a shorter one ends.
    """
    folder.mkdir()
    lines = made_up_lines(random.Random(0))
    for split, size in (("validation", VALIDATION_BYTES), ("train", num_bytes)):
        with (folder / f"{split}.txt").open("wb") as file:
            while size > 0:
                size -= file.write(next(lines))


def nats_per_character() -> float:
    """The entropy of running text: the lowest mean loss that any model of characters can have."""
    frequencies = defaultdict[str, float](float)
    for word, frequency in made_up_words(random.Random(0)):
        frequencies[word] += frequency
    total = sum(frequencies.values())
    shares = {word: frequency / total for word, frequency in frequencies.items()}
    entropy = -sum(share * math.log(share) for share in shares.values())
    length = sum(share * len(word) for word, share in shares.items())
    return WORDS * entropy / (WORDS * (length + 1) + 1)  # a word and what follows it, and the line end


def made_up_lines(chance: random.Random) -> Iterator[bytes]:
    """Lines of made-up words without end. The words are drawn independently of each other."""
    words, frequencies = zip(*made_up_words(chance), strict=True)
    while True:
        chosen = chance.choices(words, frequencies, k=1000 * WORDS)
        yield from (f"{' '.join(chosen[start : start + WORDS])}.\n".encode() for start in range(0, len(chosen), WORDS))


def made_up_words(chance: random.Random) -> list[tuple[str, float]]:
    """20,000 words with their relative frequencies, by Zipf's law. Short words come more than once."""
    letters = "etaoinshrdlucmfwypvbgkjqxzé"
    return [("".join(chance.choices(letters, k=chance.randint(1, 9))), 1 / rank) for rank in range(1, 20_001)]
