"""What the pipelines share: the texts that they take, loading and saving, batches by length, and warnings."""

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic, sha256, write_json
from minitransformer.int8 import quantize
from minitransformer.models import Model, SequenceClassifier, load
from minitransformer.models.weights import own_tensors, require_finite
from minitransformer.text_encoding import pad
from minitransformer.tokenization import FINGERPRINTS, load_tokenizer, num_ids
from minitransformer.untrusted import read_json, shown

M = TypeVar("M", bound=Model)


def one_or_many(method: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's method over a list of texts takes one string too, and gives its result alone.

    Raises `InputError` for anything but a string or strings.
    """

    @functools.wraps(method)
    def of_one_or_many(self: Any, texts: Any, *args: Any, **options: Any) -> Any:
        results = method(self, list(texts_of(texts)), *args, **options)
        return results[0] if isinstance(texts, str) else results

    return of_one_or_many


def texts_of(texts: Any) -> Iterator[str]:
    """The texts, or the one text, lazily; `InputError` for anything else, and for what is not Unicode."""
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, bytes | bytearray | Mapping | Set) or not isinstance(texts, Iterable):
        raise InputError(f"{shown(texts)} is a {type(texts).__name__}: give a string, or a list of strings")
    for text in texts:
        require_text(text)
        yield text


def require_text(text: Any) -> None:
    """`InputError` for anything but a string, and for bytes that are not UTF-8: Python reads them as surrogates, which
    no tokenizer accepts."""
    if not isinstance(text, str):
        raise InputError(f"{shown(text)} is a {type(text).__name__}: give one string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text[:100]!r} is not UTF-8 after {error.start} characters; convert it first") from error


def load_model(
    folder: str | Path, kind: type[M] | tuple[type[M], ...], refusal: str, dtype: torch.dtype = torch.float32
) -> M:
    """The model saved in `folder`, with weights of 8 bits for torch.int8; `InputError` with the `refusal` ("which gives
    no labels") if it is not a `kind`."""
    model = load(folder, torch.float32 if dtype == torch.int8 else dtype)
    if not isinstance(model, kind):
        raise InputError(f"{folder} holds a {type(model).__name__}, {refusal}")
    return quantize(model) if dtype == torch.int8 else model


def load_with_tokenizer(
    folder: str | Path, kind: type[M] | tuple[type[M], ...], refusal: str, dtype: torch.dtype = torch.float32
) -> tuple[M, Tokenizer]:
    """As `load_model`, with the `tokenizer.json` in the folder, which must be the model's."""
    model = load_model(folder, kind, refusal, dtype)
    return model, load_tokenizer(Path(folder) / "tokenizer.json", vocab_size=source_vocabulary(model))


def source_vocabulary(model: Model) -> int:
    """How many ids the model reads. `InputError` if an encoder of one's own does not say."""
    reader = model.encoder if isinstance(model, SequenceClassifier) else model
    config = getattr(reader, "config", None)
    if size := getattr(config, "vocab_size", None) or getattr(config, "source_vocab_size", None):
        return size
    raise InputError(f"a {type(reader).__name__} says in no config how many ids it reads: give it a GPTConfig, say")


def require_usable(model: Any, kinds: tuple[type[Model], ...], *tokenizers: Any) -> None:
    """`InputError` for a model of another kind, or with weights that are NaN or infinite, and for what is no tokenizer
    or has ids that the model does not know. The first tokenizer is the source's, the second the target's."""
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps a model
    if not isinstance(model, kinds):
        raise InputError(f"the model is a {type(model).__name__}: give a {' or '.join(k.__name__ for k in kinds)}")
    require_finite(own_tensors(model), f"this {type(model).__name__}")
    sizes = source_vocabulary(model), getattr(model.config, "target_vocab_size", 0)
    for tokenizer, vocab_size in zip(tokenizers, sizes, strict=False):
        if not isinstance(tokenizer, Tokenizer):
            raise InputError(f"the tokenizer is a {type(tokenizer).__name__}: give a tokenizers.Tokenizer")
        if (size := num_ids(tokenizer)) > vocab_size:
            raise InputError(f"the tokenizer has ids up to {size - 1}, the model knows 0 to {vocab_size - 1}")


def save(model: Model, tokenizers: Mapping[str, Tokenizer], folder: str | Path) -> Path:
    """Write the model and each tokenizer under its file name; `load_tokenizer` knows them again."""
    folder = model.save(folder)
    for name, tokenizer in tokenizers.items():
        with atomic(folder / name) as temporary:
            tokenizer.save(str(temporary))
    config = folder / "config.json"
    write_json(config, read_json(config) | {FINGERPRINTS: {name: sha256(folder / name) for name in tokenizers}})
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


def warn_of_cut(
    what: str, cut: int, count: int, limit: int, places: Sequence[int] = (), *, kept: str = "and are cut there"
) -> None:
    """One warning that counts the texts that are cut to `limit` tokens; none if there are none."""
    if cut:
        warnings.warn(
            f"{cut:,} of {count:,} {what}s are longer than the {limit} tokens that the model reads, {kept}"
            + (f": {what} {listed(places)}" if places else ""),
            stacklevel=4,
        )


def listed(places: Sequence[int]) -> str:
    """The first ten of the numbers."""
    return ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
