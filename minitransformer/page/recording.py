"""How a model decodes one text, step by step: its maps, and the likeliest tokens before each choice."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, Shaped
from tokenizers import Tokenizer
from torch import Tensor, nn

from minitransformer.attention_maps import AttentionMap, record_attention
from minitransformer.errors import InputError
from minitransformer.generation import likeliest, stream
from minitransformer.page.views import Step
from minitransformer.tokenization import special_ids

SHOWN = 5
"""How many of the likeliest tokens a step has."""


def require_attention(model: nn.Module, title: str) -> None:
    """`InputError` for a model without attention, before it works."""
    if not any(isinstance(module, AttentionMap) for module in model.modules()):
        raise InputError(f"{title}: this model has no attention to show")


class Decoded(NamedTuple):
    """The new ids, the likeliest ids with their probabilities before each, and the maps of `record_attention`."""

    ids: list[int]
    likeliest: list[list[tuple[int, float]]]
    maps: dict[str, Float[Tensor, "1 heads queries keys"]]


def decoded(
    model: Any,
    inputs: Shaped[Tensor, "1 *input"],
    valid: Bool[Tensor, "1 *place"] | None = None,
    *,
    max_new_tokens: int,
    vocab_size: int | None = None,
) -> Decoded:
    """One text decoded as by `greedy`, with attention recorded. The model is a module that is `Decodable`."""
    before: list[list[tuple[int, float]]] = []

    def choose(logits: Float[Tensor, "1 vocab"]) -> Int[Tensor, " 1"]:
        before.append(best_of(logits[0]))
        return likeliest(logits)

    with record_attention(model) as maps:
        new = stream(model, inputs, valid, choose=choose, max_new_tokens=max_new_tokens, vocab_size=vocab_size)
        ids = [int(token) for token in new]
    return Decoded(ids, before, maps)


def best_of(logits: Float[Tensor, " vocab"], count: int = SHOWN) -> list[tuple[int, float]]:
    """The likeliest ids with their probabilities, best first."""
    best = logits.float().softmax(dim=0).topk(min(count, len(logits)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def steps_of(tokenizer: Tokenizer, prompt: Sequence[int], found: Decoded) -> tuple[Step, ...]:
    """Each choice with the text before it, and each candidate spelled as what it would add to that text."""
    special = special_ids(tokenizer)

    def added(before: Sequence[int], token: int) -> str:
        if token in special:
            return str(tokenizer.id_to_token(token))
        near = list(before[-4:])  # some decoders leave out the space before the first token
        return tokenizer.decode([*near, token])[len(tokenizer.decode(near)) :]

    steps = []
    for count, candidates in enumerate(found.likeliest):
        before = [*prompt, *found.ids[:count]]
        spelled = tuple((added(before, token), probability) for token, probability in candidates)
        steps.append(Step(tokenizer.decode(before), spelled))
    return tuple(steps)


@contextmanager
def noted() -> Iterator[list[str]]:
    """The warnings of the block, collected as notes for a page's reader when it ends, and passed on."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    for warning in caught:
        notes.append(str(warning.message))
        warnings.warn(warning.message, warning.category, stacklevel=4)
