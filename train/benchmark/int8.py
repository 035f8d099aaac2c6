"""Generation with weights of 8 bits: its speed beside `transformers` in float32, and what the rounding costs."""

import copy
import math
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from minitransformer.data import load
from minitransformer.data.streams import stream_rows
from minitransformer.generation import greedy
from minitransformer.int8 import quantize
from minitransformer.models import GPT
from minitransformer.tokenization import train_character_tokenizer
from train.benchmark.gpt import NEW_TOKENS, PROMPT, generations, generators, trained_by_recipe
from train.benchmark.timing import Machine, speeds, times_as_fast
from train.pretrain.gpt.stream_loss import stream_loss


def gpt_int8(settings: Any, machine: Machine, console: Console) -> dict[str, Any]:
    """Tokens per second at 12 x 768, batch 1; then perplexity and greedy text of a GPT trained here."""
    layers, width, heads, vocab_size = (2, 64, 2, 65) if settings.quick else (12, 768, 12, 50257)
    ours, theirs = generators(
        layers=layers, width=width, heads=heads, context=PROMPT + NEW_TOKENS, vocab_size=vocab_size
    )
    contenders = generations(quantize(ours), theirs, torch.randint(1, vocab_size, (1, PROMPT)), NEW_TOKENS)
    row = speeds(contenders, NEW_TOKENS, rounds=min(settings.rounds, 3), repeats=1, warm_up=False)
    console.print(
        f"generation {layers} x {width}, batch 1: {row['ours']:,.0f} tokens/s in int8 against {row['theirs']:,.0f} of "
        f"transformers in fp32: {times_as_fast(row)}"
    )
    return {"speed": row, "quality": _quality(settings, console)}


def _quality(settings: Any, console: Console) -> dict[str, Any]:
    corpus = load(settings.data)
    tokenizer = train_character_tokenizer(corpus["train"]["text"])
    streams = {name: stream_rows(corpus[name], tokenizer).ids for name in ("train", "validation")}
    sizes = dict(layers=4, width=128, heads=4, context=64, vocab_size=tokenizer.get_vocab_size())
    model, _ = trained_by_recipe(tokenizer, streams, sizes, quick=settings.quick, console=console, name="int8")
    model.eval()
    small = quantize(copy.deepcopy(model))
    perplexity = {
        name: math.exp(stream_loss(each, streams["validation"], context=64))
        for name, each in (("fp32", model), ("int8", small))
    }
    change = perplexity["int8"] / perplexity["fp32"] - 1
    differs = first_difference(model, small, streams["validation"][None, :16].long(), 48)
    text = "the greedy texts are equal" if differs is None else f"the greedy texts differ from token {differs} on"
    console.print(
        f"validation perplexity {perplexity['fp32']:.4f} in fp32, {perplexity['int8']:.4f} in int8 ({change:+.2%}); "
        f"{text}"
    )
    return {"perplexity": perplexity, "change": change, "first_difference": differs}


def first_difference(model: GPT, other: GPT, prompt: Tensor, new: int) -> int | None:
    """The number, from 1, of the first of `new` greedy tokens in which two models differ; None if there is none."""
    mine, theirs = (greedy(each, prompt, max_new_tokens=new)[0].tolist() for each in (model, other))
    pairs = enumerate(zip(mine, theirs, strict=False), start=1)
    return next((number for number, (one, two) in pairs if one != two), None)
