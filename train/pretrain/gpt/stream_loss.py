"""How well a causal model predicts running text, or documents that are each alone."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from minitransformer.data.packed_documents import PackedDocuments
from train.engine.training_data import evaluation_tokens


def stream_loss(
    model: Any, ids: Int[Tensor, "tokens"], context: int, *, every: int = 1, batch_tokens: int | None = None
) -> float:
    """Mean loss, in nats per token, of every token of a stream but the first.

    The stream is read in separate windows of `context` tokens: the first target of a window is predicted from one
    token, the last from the whole window. `every=n` reads only every n-th window, which is faster. `batch_tokens` are
    predicted at once, by default as many as the memory of a large vocabulary allows, but one window at least.
    """
    batch_tokens = batch_tokens or evaluation_tokens(model.config.vocab_size)
    starts = torch.arange(0, len(ids) - 1, context)[::every]
    whole = starts[starts + context < len(ids)]
    groups = whole.split(max(1, batch_tokens // context))
    # Made one at a time: all batches of a large corpus together take more memory than the model.
    batches = chain(
        (ids[rows[:, None] + torch.arange(context + 1)] for rows in groups),
        (ids[None, start:] for start in starts[len(whole) :].tolist()),
    )
    return _mean_loss(model, ({"ids": batch.long()} for batch in batches))


def documents_loss(model: Any, documents: PackedDocuments, *, every: int = 1) -> float:
    """Mean loss, in nats per token, of every token of every document and of the end-of-text after it. `every=n` reads
    only every n-th batch."""
    windows = max(1, evaluation_tokens(model.config.vocab_size) // documents.window)
    batches = documents.in_order(windows)
    return _mean_loss(model, (documents.batch(batches[place]) for place in range(0, len(batches), every)))


@torch.inference_mode()
def _mean_loss(model: Any, batches: Iterable[dict[str, Tensor]]) -> float:
    model.eval()
    on_device = ({name: tensor.to(model.device) for name, tensor in batch.items()} for batch in batches)
    losses = [model.loss(batch)["lm"] for batch in on_device]
    return sum(loss.total.item() for loss in losses) / sum(loss.count.item() for loss in losses)
