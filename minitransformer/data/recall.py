"""Associative recall: find the value that stands beside a key. Only attention to content can solve it."""

import math
import random
from string import ascii_lowercase, digits

from minitransformer.errors import InputError


def recall_pairs(count: int = 100_000, *, pairs: int = 12, seed: int = 0) -> list[tuple[str, str]]:
    """`count` distinct rows such as ("a3f7k0|f", "f7"): key–value pairs, then the key whose pair is asked for.

    Keys are distinct letters and values are digits, which may repeat. A guess is right 10% of the time; a model that
    sees which digits there are but not where, and names the commonest, is right 26% of the time for 12 pairs.
    """
    if not 1 <= pairs <= len(ascii_lowercase):
        raise InputError(f"pairs={pairs}: there are {len(ascii_lowercase)} letters to be keys, so 1 to that many pairs")
    possible = math.perm(len(ascii_lowercase), pairs) * len(digits) ** pairs * pairs
    if count > possible:
        raise InputError(f"count={count}, but pairs={pairs} allows {possible} distinct rows only")
    generator = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        keys = generator.sample(ascii_lowercase, pairs)
        values = generator.choices(digits, k=pairs)
        asked = generator.randrange(pairs)
        source = "".join(key + value for key, value in zip(keys, values, strict=True)) + "|" + keys[asked]
        rows[source] = keys[asked] + values[asked]
    return list(rows.items())
