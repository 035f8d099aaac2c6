"""Decoding: one loop for every model that can `start` and `step`.

This file picks one token per row and step; `beam_search`, which keeps several texts per row, is in `beam.py`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from minitransformer.beam import Hypothesis, beam_search
from minitransformer.checks import require_given, require_number, require_whole
from minitransformer.decodable import MOST_NEW_TOKENS, Decodable, require_inputs, require_scores, warn_in_training
from minitransformer.errors import InputError
from minitransformer.kernels import one_call

__all__ = ["Chooser", "Decodable", "Hypothesis", "Sampler", "beam_search", "greedy", "likeliest", "sample", "stream"]


Chooser = Callable[[Float[Tensor, "batch vocab"]], Int[Tensor, " batch"]]
"""Picks the next token of each row from its logits."""
StopIds = Collection[int] | Int[Tensor, " stops"]


def likeliest(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
    return logits.argmax(dim=-1)


@dataclass(frozen=True)
class Sampler:
    """Draws from softmax(logits / temperature) over the tokens that every given rule keeps, in this order:

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
        require_given(temperature=self.temperature)
        require_number("temperature", self.temperature, at_least=0, at_most=1e38)
        require_whole("top_k", self.top_k, at_least=1)
        require_number("top_p", self.top_p, more_than=0, at_most=1)
        require_number("min_p", self.min_p, at_least=0, at_most=1)

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        if self.temperature == 0:
            return likeliest(logits)
        return torch.multinomial(self.probabilities(logits), 1, generator=self.generator)[:, 0]

    def probabilities(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        """The distribution that tokens are drawn from, at a temperature above 0."""
        # Shifted first: a tiny temperature would overflow. What is 0 in float32 counts as the smallest number there.
        smallest = torch.finfo(torch.float32).tiny
        logits = (logits.float() - logits.float().amax(dim=-1, keepdim=True)) / max(self.temperature, smallest)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            smallest_kept = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
        if self.top_p is not None:
            ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
            likelier = ordered.cumsum(dim=-1) - ordered  # of all tokens before each: the first always stays
            beyond = likelier >= max(self.top_p, smallest)
            dropped = torch.zeros_like(beyond).scatter(1, order, beyond)
            logits = logits.masked_fill(dropped, float("-inf"))
        probabilities = logits.softmax(dim=-1)
        if self.min_p is not None:
            threshold = self.min_p * probabilities.amax(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < threshold, 0.0)
            probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
        return probabilities


def greedy(
    model: Decodable,
    inputs: Shaped[Tensor, "batch *input"],
    valid: Bool[Tensor, "batch *place"] | None = None,
    *,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    stop_ids: StopIds = (),
    vocab_size: int | None = None,
) -> Int[Tensor, "batch new"]:
    """The likeliest token at every step, until each row has ended or has `max_new_tokens`.

    A row ends in the model's `eos_id`, one of its own `stop_ids` or one of these, and is padded with `pad_id` while
    others go on. With a `vocab_size` only the ids below it are ever chosen: a model's vocabulary may be larger than its
    tokenizer's. The model should be in evaluation mode, or there is a warning. Raises `InputError` for values out of
    range.
    """
    return sample(
        model,
        inputs,
        valid,
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        repetition_penalty=repetition_penalty,
        stop_ids=stop_ids,
        vocab_size=vocab_size,
    )


def sample(
    model: Decodable,
    inputs: Shaped[Tensor, "batch *input"],
    valid: Bool[Tensor, "batch *place"] | None = None,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_ids: StopIds = (),
    vocab_size: int | None = None,
    seed: int | None = None,
) -> Int[Tensor, "batch new"]:
    """Tokens drawn by a `Sampler`; rows end as in `greedy`, and `stream` gives the same tokens one by one.

    With a `seed` the same call gives the same tokens, and torch's own random state stays as it is.
    """
    require_whole("seed", seed, at_least=-(1 << 63), at_most=(1 << 64) - 1)
    require_inputs(inputs, valid)
    generator = None if seed is None else torch.Generator(inputs.device).manual_seed(int(seed))
    steps = stream(
        model,
        inputs,
        valid,
        choose=Sampler(temperature, top_k, top_p, min_p, generator),
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        stop_ids=stop_ids,
        vocab_size=vocab_size,
    )
    with one_call():
        tokens = list(steps)
    return torch.stack(tokens, dim=1) if tokens else torch.empty(len(inputs), 0, dtype=torch.long, device=inputs.device)


@torch.inference_mode()
def stream(
    model: Decodable,
    inputs: Shaped[Tensor, "batch *input"],
    valid: Bool[Tensor, "batch *place"] | None = None,
    *,
    choose: Chooser = likeliest,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    stop_ids: StopIds = (),
    vocab_size: int | None = None,
) -> Iterator[Int[Tensor, " batch"]]:
    """The new tokens (B,) of all rows, one step at a time, as `choose` picks them; rows end as in `greedy`.

    `repetition_penalty` divides the positive logits of tokens that stand in a row already, and multiplies the negative
    ones (Keskar et al. 2019). The tokens of a prompt count; a source, an image or a spectrogram has none.
    """
    require_inputs(inputs, valid)
    require_given(max_new_tokens=max_new_tokens, repetition_penalty=repetition_penalty)
    require_whole("max_new_tokens", max_new_tokens, at_least=0, at_most=MOST_NEW_TOKENS)
    require_number("repetition_penalty", repetition_penalty, at_least=1e-6, at_most=1e6)
    warn_in_training(model)
    if not len(inputs) or max_new_tokens == 0:
        return
    eos_id = model.config.eos_id
    # GPT-2 has no token for padding: a row that has ended repeats its end, as in transformers.
    pad_id = getattr(model.config, "pad_id", eos_id)
    stop_ids = _whole_ids(stop_ids)
    stops = {eos_id, *getattr(model.config, "stop_ids", ()), *stop_ids}
    logits, state = model.start(inputs, valid, max_new_tokens=max_new_tokens)
    known = logits.shape[1]
    require_whole("vocab_size", vocab_size, at_least=1, at_most=known)
    if unknown := [stop for stop in stop_ids if not 0 <= stop < known]:
        raise InputError(f"stop_ids={unknown} are not in the vocabulary, ids 0 to {known - 1}")
    seen = None if repetition_penalty == 1.0 else torch.zeros_like(logits, dtype=torch.bool)
    # One vocabulary for reading and writing: the inputs are a prompt.
    is_prompt = hasattr(model.config, "vocab_size") and inputs.dim() == 2 and not inputs.is_floating_point()
    if seen is not None and is_prompt:
        for row, ids in enumerate(inputs):
            seen[row, ids if valid is None else ids[valid[row]]] = True
    ended = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    num_ended = 0
    for count in range(1, max_new_tokens + 1):
        if seen is not None:
            # In float32: float16 would overflow.
            penalised = torch.where(logits > 0, logits.float() / repetition_penalty, logits * repetition_penalty)
            logits = torch.where(seen, penalised, logits)
        offered = logits if vocab_size is None else logits[:, :vocab_size]
        require_scores(offered)
        ids = choose(offered)
        if num_ended:
            ids = ids.masked_fill(ended, pad_id)
        yield ids
        # In Python, since a few tensor operations take longer than the list.
        if ending := [row for row, token in enumerate(ids.tolist()) if token in stops]:
            ended[ending] = True
            num_ended = int(ended.sum())
        if count == max_new_tokens or num_ended == len(inputs):
            return
        if seen is not None:
            seen.scatter_(1, ids[:, None], True)
        logits, state = model.step(ids, state)


def _whole_ids(stop_ids: StopIds) -> list[int]:
    """The ids as a list. `InputError` for what would equal no id: a fraction, a string, None."""
    ids = stop_ids.flatten().tolist() if isinstance(stop_ids, Tensor) else stop_ids
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(f"stop_ids={ids!r} must be a list of ids")
    ids = list(ids)
    for each in ids:
        require_given(stop_ids=each)
        require_whole("stop_ids", each)
    return ids
