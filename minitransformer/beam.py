"""Beam search: several texts per row at once, of which the likeliest are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from minitransformer.checks import require_given, require_number, require_whole
from minitransformer.decodable import MOST_NEW_TOKENS, Decodable, require_inputs, require_scores, warn_in_training
from minitransformer.errors import InputError
from minitransformer.kernels import one_call

MOST_BEAMS = 10_000


@dataclass(frozen=True)
class Hypothesis:
    """A text that beam search found: its `ids` without BOS, and with EOS if it ended."""

    ids: list[int]
    score: float
    """log P / `length_penalty`."""
    log_probability: float
    """log P in nats."""


ALPHA = 1.0
"""The default of α in the length penalty. On Multi30k's validation pairs 1.0 gave 0.1 to 0.5 BLEU more than 0.6."""


def length_penalty(length: int, alpha: float) -> float:
    """``((5 + |Y|) / 6)^α`` (Wu et al. 2016, eq. 14); ``|Y|`` counts all tokens, EOS too, so that one costs 1."""
    return ((5 + length) / 6) ** alpha


@torch.inference_mode()
@one_call()
def beam_search(
    model: Decodable,
    inputs: Shaped[Tensor, "batch *input"],
    valid: Bool[Tensor, "batch *place"] | None = None,
    *,
    max_new_tokens: int | Int[Tensor, " batch"],
    beam_size: int = 5,
    alpha: float = ALPHA,
    n_best: int = 1,
    vocab_size: int | None = None,
) -> list[list[Hypothesis]]:
    """For each row the `n_best` hypotheses of the highest log P / `length_penalty`, best first.

    Every step takes the `beam_size` likeliest continuations of a row's beam, whatever their score. Those that end, in
    EOS or at `max_new_tokens` (one number, or one per row), leave the beam as hypotheses; the others are the next beam.
    A row is finished, and leaves the batch, once nothing in its beam can reach the score of the `n_best`-th hypothesis.
    As log P only falls, log P / `length_penalty(max_new_tokens)` bounds what it can reach, so that to stop there
    changes nothing. `beam_size=1` is `greedy`. A row has fewer than `n_best` hypotheses only if it has fewer texts;
    without any new token its text is empty. With a `vocab_size` only the ids below it are ever chosen. The model should
    be in evaluation mode, or there is a warning. Raises `InputError` for values out of range.
    """
    require_inputs(inputs, valid)
    require_given(max_new_tokens=max_new_tokens, beam_size=beam_size, alpha=alpha, n_best=n_best)
    limits = max_new_tokens.flatten().tolist() if isinstance(max_new_tokens, Tensor) else [max_new_tokens] * len(inputs)
    for limit in limits:
        require_whole("max_new_tokens", limit, at_least=0, at_most=MOST_NEW_TOKENS)
    require_whole("beam_size", beam_size, at_least=1, at_most=MOST_BEAMS)
    require_number("alpha", alpha, at_least=0, at_most=10)
    require_whole("n_best", n_best, at_least=1)
    if n_best > beam_size:
        raise InputError(f"n_best={n_best} must be at most beam_size={beam_size}")
    if len(limits) != len(inputs):
        raise InputError(f"max_new_tokens has {len(limits)} limits for {len(inputs)} rows: give one, or one per row")
    warn_in_training(model)
    ends = [model.config.eos_id, *getattr(model.config, "stop_ids", ())]
    found = [[Hypothesis([], 0.0, 0.0)] if limit == 0 else [] for limit in limits]
    searched = [row for row, limit in enumerate(limits) if limit != 0]  # which rows are in the batch
    if not searched:
        return found
    if len(searched) < len(limits):
        inputs, valid = inputs[searched], None if valid is None else valid[searched]
    logits, state = model.start(inputs, valid, max_new_tokens=max(limits))
    require_whole("vocab_size", vocab_size, at_least=1, at_most=logits.shape[1])
    # A row starts from one beam: copies of it would all continue alike.
    log_p = logits.new_zeros(len(searched), 1, dtype=torch.promote_types(logits.dtype, torch.float32))
    texts = torch.zeros(len(searched), 1, 0, dtype=torch.long, device=logits.device)
    for length in range(1, max(limits) + 1):
        num_beams = log_p.shape[1]
        log_p, beams, ids = likeliest_continuations(log_p, logits[:, :vocab_size], beam_size)
        require_scores(log_p)
        texts = torch.cat([texts.gather(1, beams[..., None].expand(-1, -1, length - 1)), ids[..., None]], dim=2)
        at_limit = [limits[row] == length for row in searched]
        ended = ids == ends[0] if len(ends) == 1 else torch.isin(ids, torch.tensor(ends, device=ids.device))
        if any(at_limit):
            ended = ended | torch.tensor(at_limit, device=ended.device)[:, None]
        penalty = length_penalty(length, alpha)
        for place, beam in (ended & log_p.isfinite()).nonzero().tolist():
            log_probability = float(log_p[place, beam])
            hypothesis = Hypothesis(texts[place, beam].tolist(), log_probability / penalty, log_probability)
            found[searched[place]].append(hypothesis)
        log_p = log_p.masked_fill(ended, -math.inf)
        places = []
        for place, (row, best) in enumerate(zip(searched, log_p.amax(dim=1).tolist(), strict=True)):
            found[row] = sorted(found[row], key=lambda hypothesis: -hypothesis.score)[:n_best]
            reachable = best / length_penalty(limits[row], alpha)
            if reachable > (found[row][-1].score if len(found[row]) == n_best else -math.inf):
                places.append(place)
        if not places:
            break
        places = with_gaps_closed(places)
        searched = [searched[place] for place in places]
        remaining = torch.tensor(places, device=log_p.device)[:, None]
        order = steady_order(beams, num_beams)[remaining[:, 0]]
        log_p, beams, ids, texts = (tensor[remaining, order] for tensor in (log_p, beams, ids, texts))
        rows = (remaining * num_beams + beams).flatten()
        state = state.reorder(rows) if hasattr(state, "reorder") else state.select(rows)
        logits, state = model.step(ids.flatten(), state)
    return found


def likeliest_continuations(
    log_p: Float[Tensor, "batch beams"], logits: Float[Tensor, "rows vocab"], count: int
) -> tuple[
    Float[Tensor, "batch continuations"], Int[Tensor, "batch continuations"], Int[Tensor, "batch continuations"]
]:
    """The `count` likeliest continuations of a row's beams, or all if there are fewer: their log P, the beam that each
    continues, and the token that it adds. In `logits` the beams of a row are neighbours."""
    (batch, beams), vocab = log_p.shape, logits.shape[1]
    candidates = log_p[..., None] + logits.log_softmax(dim=-1, dtype=log_p.dtype).view(batch, beams, vocab)
    # The likeliest `count` add at most `count` tokens: those whose likeliest beam is the likeliest. `topk` over one
    # beam's vocabulary costs less than over that of all beams.
    tokens = candidates.amax(dim=1).topk(min(count, vocab), dim=-1).indices
    of_tokens = candidates.gather(2, tokens[:, None].expand(-1, beams, -1)).flatten(1)
    log_p, chosen = of_tokens.topk(min(count, of_tokens.shape[1]), dim=-1)
    return log_p, chosen // tokens.shape[1], tokens.gather(1, chosen % tokens.shape[1])


def steady_order(beams: Int[Tensor, "batch continuations"], num_beams: int) -> Int[Tensor, "batch continuations"]:
    """An order in which the first continuation of a beam stands at the place of that beam, so that its keys and values
    need not move. The order does not change where there are more or fewer continuations than `num_beams`."""
    if beams.shape[1] != num_beams:
        return torch.arange(beams.shape[1], device=beams.device).expand_as(beams)
    again = (beams[:, :, None] == beams[:, None, :]).tril(-1).any(dim=-1)
    free = torch.ones_like(again).scatter_(1, beams, False)
    return beams.masked_scatter(again, free.nonzero()[:, 1]).argsort(dim=1)


def with_gaps_closed(places: Sequence[int]) -> list[int]:
    """The same places in an order in which most are their own index: 0 2 3, from which 1 is missing, gives 0 3 2."""
    held, last = set(places), [place for place in places if place >= len(places)]
    return [place if place in held else last.pop() for place in range(len(places))]
