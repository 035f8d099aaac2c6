"""Decoding: one loop for every model that can `start` and `step`.

Here is what picks one token a row and step; `beam_search`, which keeps several texts a row, is in `beam.py`.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minitransformer.beam import Hypothesis, beam_search
from minitransformer.decodable import Decodable
from minitransformer.errors import InputError

__all__ = ["Chooser", "Decodable", "Hypothesis", "Sampler", "beam_search", "greedy", "likeliest", "sample", "stream"]


Chooser = Callable[[Float[Tensor, "batch vocab"]], Int[Tensor, " batch"]]
"""Picks the next token of each row from its logits."""


def likeliest(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
    return logits.argmax(dim=-1)


@dataclass(frozen=True)
class Sampler:
    """Draws from softmax(logits / temperature), cut down by every rule that is given, in this order:

    `top_k` keeps the k likeliest tokens (Fan et al. 2018); `top_p` the likeliest whose probabilities first add up to
    p (nucleus sampling, Holtzman et al. 2020); `min_p` those at least p times as likely as the likeliest (Nguyen et
    al. 2024). `temperature=0` takes the likeliest. Raises `InputError` for values out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature={self.temperature} must be 0 (the likeliest token) or more")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k={self.top_k} must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must be above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise InputError(f"min_p={self.min_p} must lie between 0 and 1")

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        if self.temperature == 0:
            return likeliest(logits)
        return torch.multinomial(self.probabilities(logits), 1, generator=self.generator)[:, 0]

    def probabilities(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        """What is drawn from, at a temperature above 0."""
        # Shifted first: a tiny temperature would overflow, not sharpen.
        logits = (logits.float() - logits.float().amax(dim=-1, keepdim=True)) / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            smallest_kept = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
        if self.top_p is not None:
            ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
            likelier = ordered.cumsum(dim=-1) - ordered  # of all tokens before each: the first always stays
            dropped = torch.zeros_like(likelier, dtype=torch.bool).scatter(1, order, likelier >= self.top_p)
            logits = logits.masked_fill(dropped, float("-inf"))
        probabilities = logits.softmax(dim=-1)
        if self.min_p is not None:
            threshold = self.min_p * probabilities.amax(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < threshold, 0.0)
            probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
        return probabilities


def greedy(
    model: Decodable,
    inputs: Int[Tensor, "batch source"],
    valid: Bool[Tensor, "batch source"] | None = None,
    *,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    stop_ids: Collection[int] = (),
) -> Int[Tensor, "batch new"]:
    """The likeliest token at every step, until each row has ended or `max_new_tokens` are there.

    A row ends in the model's `eos_id` or one of `stop_ids`, followed by `pad_id` while others go on. The model
    should be in evaluation mode.
    """
    steps = stream(
        model,
        inputs,
        valid,
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        stop_ids=stop_ids,
    )
    return torch.stack(list(steps), dim=1)


def sample(
    model: Decodable,
    inputs: Int[Tensor, "batch source"],
    valid: Bool[Tensor, "batch source"] | None = None,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_ids: Collection[int] = (),
    seed: int | None = None,
) -> Int[Tensor, "batch new"]:
    """Tokens drawn as `Sampler` says; rows end as in `greedy`, and `stream` gives the same tokens one by one.

    With a `seed` the same call gives the same tokens, and torch's own random state is left alone.
    """
    generator = None if seed is None else torch.Generator(inputs.device).manual_seed(seed)
    steps = stream(
        model,
        inputs,
        valid,
        choose=Sampler(temperature, top_k, top_p, min_p, generator),
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        stop_ids=stop_ids,
    )
    return torch.stack(list(steps), dim=1)


@torch.inference_mode()
def stream(
    model: Decodable,
    inputs: Int[Tensor, "batch source"],
    valid: Bool[Tensor, "batch source"] | None = None,
    *,
    choose: Chooser = likeliest,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    stop_ids: Collection[int] = (),
) -> Iterator[Int[Tensor, " batch"]]:
    """The new tokens (B,) of all rows, one step at a time, as `choose` picks them; rows end as in `greedy`.

    `repetition_penalty` divides the positive logits of tokens that a row has had, and multiplies the negative ones
    (Keskar et al. 2019); a prompt counts, the source of an encoder-decoder does not.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens={max_new_tokens} must be at least 1")
    if not repetition_penalty > 0:
        raise InputError(f"repetition_penalty={repetition_penalty} must be above 0; 1 changes nothing")
    eos_id = model.config.eos_id
    # GPT-2 has no token for padding: what follows a row's end is its end again, as in transformers.
    pad_id = getattr(model.config, "pad_id", eos_id)
    stops = {eos_id, *stop_ids}
    logits, state = model.start(inputs, valid, max_new_tokens=max_new_tokens)
    vocab_size = logits.shape[1]
    if unknown := [stop for stop in stop_ids if not 0 <= stop < vocab_size]:
        raise InputError(f"stop_ids={unknown} are no ids in a vocabulary of {vocab_size}")
    seen = None if repetition_penalty == 1.0 else torch.zeros_like(logits, dtype=torch.bool)
    if seen is not None and hasattr(model.config, "vocab_size"):  # one vocabulary for what is read and written
        for row, ids in enumerate(inputs):
            seen[row, ids if valid is None else ids[valid[row]]] = True
    ended = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    num_ended = 0
    for count in range(1, max_new_tokens + 1):
        if seen is not None:
            penalised = torch.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
            logits = torch.where(seen, penalised, logits)
        ids = choose(logits)
        if num_ended:
            ids = ids.masked_fill(ended, pad_id)
        yield ids
        # In Python: a handful of tensor operations would take longer than the list.
        if ending := [row for row, token in enumerate(ids.tolist()) if token in stops]:
            ended[ending] = True
            num_ended = int(ended.sum())
        if count == max_new_tokens or num_ended == len(inputs):
            return
        if seen is not None:
            seen.scatter_(1, ids[:, None], True)
        logits, state = model.step(ids, state)
