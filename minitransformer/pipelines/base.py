"""What the pipelines share: loading and saving, batches by length, and warnings."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.models import Model, load
from minitransformer.text_encoding import pad

M = TypeVar("M", bound=Model)


def load_model(folder: str | Path, kind: type[M] | tuple[type[M], ...], refusal: str) -> M:
    """The model saved in `folder`; `InputError` with the `refusal` ("which gives no labels") if it is not a `kind`."""
    model = load(folder)
    if not isinstance(model, kind):
        raise InputError(f"{folder} holds a {type(model).__name__}, {refusal}")
    return model


def save(model: Model, tokenizers: Mapping[str, Tokenizer], folder: str | Path) -> Path:
    """Write the model and each tokenizer under its file name."""
    folder = model.save(folder)
    for name, tokenizer in tokenizers.items():
        with atomic(folder / name) as temporary:
            tokenizer.save(str(temporary))
    return folder


def padded(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """The rows of ids as one tensor, padded on the right, and which of its tokens are real."""
    ids = pad(rows, pad_id)
    valid = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    return ids.to(device), valid.to(device)


def batches_by_length(lengths: Mapping[int, int], max_tokens: int) -> Iterator[list[int]]:
    """The keys of `lengths` in batches of neighbours in length, longest first, so that little of a batch is padding.

    A batch has at most `max_tokens` tokens, padding included, or a single row.
    """
    waiting = sorted(lengths, key=lambda row: lengths[row])
    while waiting:
        size = max(1, max_tokens // max(1, lengths[waiting[-1]]))
        batch, waiting = waiting[-size:], waiting[:-size]
        yield batch


def warn_of_unknown(unknown: Counter[str]) -> None:
    """One warning that counts what a tokenizer reads as [UNK], characters or whole words; none if there is nothing."""
    if unknown:
        what = "characters" if all(len(part) == 1 for part in unknown) else "words"
        shown = ", ".join(f"{part[:40]!r} ({count})" for part, count in unknown.most_common(5))
        more = ", ..." if len(unknown) > 5 else ""
        warnings.warn(
            f"{unknown.total()} {what} were never seen in training and are read as unknown: {shown}{more}",
            stacklevel=4,
        )


def warn_of_cut(what: str, cut: int, count: int, limit: int, places: Sequence[int] = ()) -> None:
    """One warning that counts the texts that are cut to `limit` tokens; none if there are none."""
    if cut:
        shown = ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
        warnings.warn(
            f"{cut:,} of {count:,} {what}s are longer than the {limit} tokens that the model reads, and are cut there"
            + (f": {what} {shown}" if places else ""),
            stacklevel=4,
        )
