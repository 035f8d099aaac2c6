"""How well translations agree with their references."""

from collections import defaultdict
from collections.abc import Sequence


def exact_match(outputs: Sequence[str], references: Sequence[str]) -> float:
    """The share of outputs that equal their reference."""
    return sum(o == r for o, r in zip(outputs, references, strict=True)) / len(references)


def character_accuracy(outputs: Sequence[str], references: Sequence[str]) -> float:
    """The share of characters that stand where the reference has them; missing and surplus ones count as wrong."""
    pairs = list(zip(outputs, references, strict=True))
    right = sum(a == b for output, reference in pairs for a, b in zip(output, reference, strict=False))
    return right / max(1, sum(max(len(output), len(reference)) for output, reference in pairs))


def exact_match_by_group(
    outputs: Sequence[str], references: Sequence[str], groups: Sequence[str]
) -> dict[str, dict[str, int | float]]:
    """For each group of rows, largest first: how many there are, and the share that is exactly right."""
    right: dict[str, list[bool]] = defaultdict(list)
    for output, reference, group in zip(outputs, references, groups, strict=True):
        right[group].append(output == reference)
    largest_first = sorted(right.items(), key=lambda item: -len(item[1]))
    return {group: {"count": len(hits), "exact_match": sum(hits) / len(hits)} for group, hits in largest_first}
