"""GPT against `transformers.GPT2LMHeadModel`: training speed, generation speed, and time to a validation loss."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from rich.console import Console
from tokenizers import Tokenizer
from torch import Tensor, nn

from minitransformer.data import load
from minitransformer.data.streams import StreamWindows, stream_rows
from minitransformer.generation import greedy
from minitransformer.learning_rate import learning_rate, set_learning_rate
from minitransformer.models import GPT, GPTConfig, Loss
from minitransformer.models.base import target_loss
from minitransformer.optim import adamw, muon
from minitransformer.tokenization import end_of_text_id, train_character_tokenizer
from train.benchmark.timing import Machine, epoch_of, our_loss, speeds, step_of, times_as_fast
from train.pretrain.gpt.stream_loss import stream_loss
from train.pretrain.settings import MODERN

# layers, width, heads, context, batch size: nanoGPT's setting for a CPU, and its character model for a GPU.
TRAINING = [(4, 128, 4, 64, 12), (6, 384, 6, 256, 8)]
# layers, width, heads, vocabulary
GENERATION = [(4, 128, 4, 65), (12, 768, 12, 50257)]
PROMPT, NEW_TOKENS = 32, 200


class Rival(nn.Module):
    """`GPT2LMHeadModel` with the interface of `GPT` that training needs."""

    def __init__(self, *, layers: int, width: int, heads: int, context: int, vocab_size: int):
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        self.config = GPT2Config(
            vocab_size=vocab_size,
            n_positions=context,
            n_embd=width,
            n_head=heads,
            n_layer=layers,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
        )
        self.model = GPT2LMHeadModel(self.config)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Loss]:
        ids = batch["ids"]
        logits = self.model(ids[:, :-1], use_cache=False).logits.flatten(0, 1)
        return {"lm": Loss(target_loss(logits, ids[:, 1:].flatten()), torch.tensor(len(logits)))}


def our_gpt(*, layers: int, width: int, heads: int, context: int, vocab_size: int, **options: Any) -> GPT:
    sizes = dict(num_layers=layers, d_model=width, num_heads=heads, max_length=context, vocab_size=vocab_size)
    return GPT(GPTConfig(**{**sizes, "eos_id": 0, "dropout": 0.0, **options}))


def flops_per_token(model: GPT, context: int) -> int:
    """Of forward and backward: 6 for each weight of a matrix, and attention without its hidden causal half."""
    c = model.config
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name)
    head = 0 if not c.tie_output else c.vocab_size * c.d_model
    return 6 * (matrices + head) + 6 * c.num_layers * c.d_model * context


def gpt_training(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Tokens per second of a training step with a fused AdamW."""
    rows = []
    for layers, width, heads, context, batch_size in TRAINING[: 1 if settings.quick else None]:
        sizes = dict(layers=layers, width=width, heads=heads, context=context, vocab_size=65)
        ids = torch.randint(65, (batch_size, context + 1))
        for precision, dtype, peak in machine.precisions():
            contenders = {
                name: epoch_of(model, our_loss(model), [{"ids": ids}], dtype)
                for name, model in (("ours", our_gpt(**sizes)), ("theirs", Rival(**sizes)))
            }
            repeats = 2 if settings.quick else max(3, round(30 * 1e6 / (width * width * layers * context)))
            setting = f"{layers} x {width}, context {context}, batch {batch_size}"
            row: dict[str, Any] = {"setting": setting, "precision": precision}
            row |= speeds(contenders, batch_size * context, rounds=settings.rounds, repeats=repeats)
            flops = flops_per_token(our_gpt(**sizes), context)
            row |= {f"{name}_share_of_peak": row[name] * flops / peak for name in contenders}
            console.print(
                f"training {row['setting']}, {precision}: {row['ours']:,.0f} tokens/s "
                f"({row['ours_share_of_peak']:.0%} of the matmul peak) against {row['theirs']:,.0f} "
                f"({row['theirs_share_of_peak']:.0%}): {times_as_fast(row)}"
            )
            rows.append(row)
    return rows


def gpt_generation(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """New tokens per second, greedy, with the cache of either side."""
    rows = []
    for layers, width, heads, vocab_size in GENERATION[: 1 if settings.quick else None]:
        sizes = dict(layers=layers, width=width, heads=heads, context=PROMPT + NEW_TOKENS, vocab_size=vocab_size)
        ours, theirs = generators(**sizes)
        for batch_size in (1, 8, 32):
            for precision, dtype, _ in machine.precisions(few_rows=True):
                ours, theirs = ours.to(dtype or torch.float32), theirs.to(dtype or torch.float32)
                new = 10 if settings.quick else NEW_TOKENS
                large = width > 500  # a turn takes up to a minute: its first call is a small part of it
                rounds = min(settings.rounds, 2) if large else settings.rounds
                row: dict[str, Any] = {"setting": f"{layers} x {width}, batch {batch_size}", "precision": precision}
                row |= generation_speeds(ours, theirs, batch_size, new, machine, rounds=rounds, warm_up=not large)
                print_generation(row, console)
                rows.append(row)
    return rows


def generation_speeds(
    ours: GPT, theirs: Any, batch_size: int, new: int, machine: Machine, *, rounds: int, warm_up: bool
) -> dict[str, float]:
    """New tokens per second of either side, and the rate at which ours reads its weights, also as a share of the
    machine's."""
    prompts = torch.randint(1, ours.config.vocab_size, (batch_size, PROMPT))
    contenders = generations(ours, theirs, prompts, new)
    found = speeds(contenders, batch_size * new, rounds=rounds, repeats=1, warm_up=warm_up)
    weights = sum(p.numel() * p.element_size() for p in ours.parameters())
    rate = weights * found["ours"] / batch_size
    return {**found, "bytes_per_second": rate, "share_of_read_rate": rate / machine.read_rate}


def print_generation(row: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"generation {row['setting']}, {row['precision']}: {row['ours']:,.0f} tokens/s against "
        f"{row['theirs']:,.0f}: {times_as_fast(row)}; weights read at "
        f"{row['bytes_per_second'] / 1e9:.1f} GB/s, {row['share_of_read_rate']:.0%} of the read rate"
    )


def generators(**sizes: int) -> tuple[GPT, Any]:
    """Both sides in evaluation mode. Ours has an end-of-text token, which is never the likeliest."""
    ours = our_gpt(**sizes).eval()
    with torch.no_grad():
        ours.embedding.weight[0] = -10 * ours.embedding.weight[1:].mean(dim=0)
    return ours, Rival(**sizes).model.eval()


def generations(ours: GPT, theirs: Any, prompts: Tensor, new: int) -> dict[str, Callable[[], None]]:
    """Greedy continuations of `prompts` by `new` tokens, by each side with its cache."""

    def our_turn() -> None:
        assert greedy(ours, prompts, max_new_tokens=new).shape[1] == new

    def their_turn() -> None:
        options = dict(do_sample=False, use_cache=True, max_new_tokens=new, attention_mask=torch.ones_like(prompts))
        assert theirs.generate(prompts, **options).shape[1] == prompts.shape[1] + new

    return {"ours": our_turn, "theirs": their_turn}


def gpt_quality(settings: Any, machine: Machine, console: Console) -> dict[str, Any]:
    """Seconds of training, without evaluation, until the loss of the whole validation split is `target_loss`.

    The rival has nanoGPT's setting for a CPU. Ours has our recipe and no more parameters.
    """
    corpus = load(settings.data)
    tokenizer = train_character_tokenizer(corpus["train"]["text"])
    streams = {name: stream_rows(corpus[name], tokenizer).ids for name in ("train", "validation")}
    sizes = dict(layers=4, width=128, heads=4, context=64, vocab_size=tokenizer.get_vocab_size())
    dtype = torch.bfloat16 if machine.bfloat16_pays else None

    torch.manual_seed(0)
    theirs = Rival(**sizes)
    reference = train_for(
        theirs,
        adamw(theirs, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99), eps=1e-8),
        streams,
        context=64,
        batch_size=12,
        steps=20 if settings.quick else 2000,
        rate=lambda step, done: learning_rate("cosine", 1e-3, step=step, progress=done, warmup_steps=100, final=0.1),
        console=console,
        name="reference",
    )

    _, mine = trained_by_recipe(
        tokenizer, streams, sizes, quick=settings.quick, dtype=dtype, console=console, name="ours"
    )
    figures = {"reference": reference, "ours": mine, "ratio": reference["seconds"] / mine["seconds"]}
    for name in ("reference", "ours"):
        row = figures[name]
        console.print(
            f"{name}: validation loss {row['loss']:.4f} after {row['seconds']:.1f} s of training, {row['steps']} steps "
            f"of {row['tokens'] // row['steps']} tokens, {row['parameters']:,} parameters"
        )
    reached = "reached" if mine["loss"] <= settings.target_loss else "NOT reached"
    console.print(f"{settings.target_loss} {reached} in 1/{figures['ratio']:.1f} of the reference's time")
    return figures


RECIPE: dict[str, Any] = dict(lr=1.2e-2, batch_size=16, steps=160, momentum=0.8, betas=(0.9, 0.99))
"""What each choice gains is in docs/results.md."""


def trained_by_recipe(
    tokenizer: Tokenizer,
    streams: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    *,
    quick: bool,
    console: Console,
    name: str,
    dtype: torch.dtype | None = None,
) -> tuple[GPT, dict[str, Any]]:
    """A GPT of these `sizes`, for `our_gpt`, trained by `RECIPE`, and the figures of its training."""
    torch.manual_seed(0)
    model = our_gpt(**sizes, eos_id=end_of_text_id(tokenizer), **{**MODERN, "norm": "layernorm"})
    model.init_weights(zero_residual=True)
    rates: dict[str, Any] = dict(lr=RECIPE["lr"], momentum=RECIPE["momentum"], betas=RECIPE["betas"])
    figures = train_for(
        model,
        muon(model, weight_decay=0.01, eps=1e-8, normalize=True, **rates),
        streams,
        context=sizes["context"],
        batch_size=RECIPE["batch_size"],
        steps=20 if quick else RECIPE["steps"],
        rate=lambda step, done: learning_rate("linear", RECIPE["lr"], step=step, progress=done),
        dtype=dtype,
        console=console,
        name=name,
    )
    return model, figures


def train_for(
    model: Any,
    optimizer: torch.optim.Optimizer,
    streams: Mapping[str, Tensor],
    *,
    context: int,
    batch_size: int,
    steps: int,
    rate: Callable[[int, float], float],
    console: Console,
    name: str,
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """Train for a number of steps. The time from the first step to the last counts, batches included.

    Returns seconds, steps, tokens, parameters and the loss of the whole validation stream.
    """
    windows = StreamWindows(streams["train"], context, batch_size=batch_size, seed=0)
    batches = (windows.batch(rows) for number in range(1000) for rows in windows.epoch(number))
    train_on = step_of(model, our_loss(model), dtype, optimizer)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        set_learning_rate(optimizer, rate(step, (step - 1) / steps))
        train_on(next(batches))
        if step % 500 == 0:
            console.print(f"{name}: {step} of {steps} steps, {time.perf_counter() - began:.0f} s")
    return {
        "seconds": time.perf_counter() - began,
        "steps": steps,
        "tokens": steps * batch_size * context,
        "loss": stream_loss(model, streams["validation"], context),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
