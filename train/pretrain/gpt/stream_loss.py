"""How well a causal model predicts running text."""

import warnings
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.token_rows import TokenRows
from minitransformer.errors import InputError
from minitransformer.tokenization import UNK


@torch.inference_mode()
def stream_loss(
    model: Any, ids: Int[Tensor, "tokens"], context: int, *, every: int = 1, batch_tokens: int = 8192
) -> float:
    """Mean loss, in nats per token, of every token of a stream but the first.

    The stream is read in separate windows of `context` tokens: the first target of a window is predicted from one
    token, the last from the whole window. `every=n` reads only every n-th window, which is faster.
    """
    starts = torch.arange(0, len(ids) - 1, context)[::every]
    whole = starts[starts + context < len(ids)]
    groups = whole.split(max(1, batch_tokens // context))
    # Made one at a time: all batches of a large corpus together take more memory than the model.
    batches = chain(
        (ids[rows[:, None] + torch.arange(context + 1)] for rows in groups),
        (ids[None, start:] for start in starts[len(whole) :].tolist()),
    )
    model.eval()
    losses = [model.loss({"ids": batch.long().to(model.device)})["lm"] for batch in batches]
    return sum(loss.total.item() for loss in losses) / sum(loss.count.item() for loss in losses)


def check_unknown(splits: Mapping[str, TokenRows], tokenizer: Tokenizer, data: str) -> None:
    """Warn of what became [UNK] in each split; `InputError` where it is most of one, so that nothing can be learned."""
    if tokenizer.token_to_id(UNK) is None:  # a byte-level tokenizer knows everything
        return
    for name, rows in splits.items():
        tokens, count = len(rows.ids), int(rows.columns["unknown"].sum())
        if 2 * count > tokens:
            raise InputError(
                f"--data {data}: {count:,} of {tokens:,} tokens of {name} are unknown to the tokenizer: "
                "take one that was trained on such text, or a byte-level one"
            )
        if count:
            warnings.warn(
                f"{count:,} of {tokens:,} tokens of {name} are unknown to the tokenizer and count as one kind: "
                "its loss and bits per byte look better than they are",
                stacklevel=2,
            )
