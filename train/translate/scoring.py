"""How well translations agree with their references, and texts with what a model expects."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


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


@torch.inference_mode()
def stream_loss(
    model: Any, ids: Int[Tensor, "tokens"], context: int, *, every: int = 1, batch_tokens: int = 8192
) -> float:
    """Mean loss, in nats per token, of every token of a stream but the first.

    It is read in windows of `context`, each of which begins anew: the first token of a window is predicted from one
    token, the last from all. To look quickly, take only one window of `every` so many.
    """
    starts = torch.arange(0, len(ids) - 1, context)[::every]
    whole = starts[starts + context < len(ids)]
    groups = whole.split(max(1, batch_tokens // context))
    # One after another: of a large corpus, the batches together take more memory than the model.
    batches = chain(
        (ids[rows[:, None] + torch.arange(context + 1)] for rows in groups),
        (ids[None, start:] for start in starts[len(whole) :].tolist()),
    )
    model.eval()
    losses = [model.loss({"ids": batch.long().to(model.device)})["lm"] for batch in batches]
    return sum(loss.total.item() for loss in losses) / sum(loss.count.item() for loss in losses)
