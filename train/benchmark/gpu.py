"""On one GPU: the tests that need it, then GPT-2's training and generation beside `transformers.GPT2LMHeadModel`.

Where there is no GPU the same runs at tiny sizes on the CPU, to see that it runs: those figures mean nothing.
"""

import gc
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from train.benchmark.gpt import PROMPT, Rival, flops_per_token, generations, generators, our_gpt
from train.benchmark.timing import Machine, in_turns, our_loss, ratios, step_of, timed
from train.engine.data_parallel import replicate
from train.engine.processes import Processes

ROOT = Path(__file__).parents[2]
COMPILED = ", compiled"
# The kind under which the profile counts a kernel, or on a CPU an operation, by its name. The first that fits counts.
KINDS = {
    "attention": r"flash|fmha|attention",
    "matrix products": r"gemm|nvjet|cutlass|cublas|aten::(add|b|badd)*mm$",
    "softmax and loss": r"softmax|nll|scatter_gather|gather|expm1",
    "norms": r"layer_?norm",
    "AdamW": r"adam",
}


@dataclass(frozen=True)
class Sizes:
    layers: int
    width: int
    heads: int
    vocab_size: int
    context: int
    batches: tuple[int, ...]
    compiled: int
    """The batch size that compiled models are timed with: each takes a minute to compile."""
    prompts: tuple[int, ...]
    new_tokens: int
    steps: int
    product: int
    """The width of the square matrices whose product gives the peak."""

    def of_model(self, context: int) -> dict[str, int]:
        names = ("layers", "width", "heads", "vocab_size")
        return {"context": context, **{name: getattr(self, name) for name in names}}


GPT2 = Sizes(12, 768, 12, 50257, 1024, (8, 32, 64), 32, (1, 8, 32, 128), 128, 4, 8192)
TINY = Sizes(2, 32, 2, 101, 16, (2, 3), 3, (1, 3), 4, 1, 128)


@dataclass(frozen=True)
class Card:
    """A device, and what it was measured to do: operations per second of a large matrix product, bytes read."""

    device: torch.device
    name: str
    peak: dict[str, float]
    read_rate: float

    @classmethod
    def measured(cls, product: int) -> "Card":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        peak = {}
        for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
            left, right = (torch.randn(product, product, dtype=dtype, device=device) for _ in range(2))
            multiply = done(partial(torch.mm, left, right), device)
            peak[name] = 2 * product**3 / min(timed(multiply) for _ in range(8))
        numbers = torch.ones(product * product * 16, device=device)
        read_rate = 4 * numbers.numel() / min(timed(done(numbers.sum, device)) for _ in range(5))
        return cls(device, torch.cuda.get_device_name() if device.type == "cuda" else "CPU", peak, read_rate)


def done(function: Callable[[], Any], device: torch.device) -> Callable[[], None]:
    """`function`, and a wait until the device has done what it was sent."""

    def whole() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return whole


def gpu(settings: Any, machine: Machine, console: Console) -> dict[str, Any]:
    """Tests, training and generation."""
    large = torch.cuda.is_available() and not settings.quick
    sizes = GPT2 if large else TINY
    if not large:
        console.print("gpu: tiny sizes, to see that it runs; the figures mean nothing")
    tests = cuda_tests(console)
    card = Card.measured(sizes.product)
    console.print(
        f"{card.name}, torch {torch.__version__}: {card.peak['bf16'] / 1e12:,.1f} TFLOP/s in bf16, "
        f"{card.peak['fp32'] / 1e12:,.1f} in fp32, {card.read_rate / 1e9:,.0f} GB/s read"
    )
    figures = {"card": card.name, "peak": card.peak, "read_rate": card.read_rate, "tests": tests}
    figures["training"] = [training(sizes, batch, card, settings.rounds, console) for batch in sizes.batches]
    figures["generation"] = list(generation(sizes, card, settings.rounds, console))
    return figures


def cuda_tests(console: Console) -> dict[str, int]:
    """How many of the tests in tests/cuda passed, failed and were skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "cuda")]
    if torch.cuda.is_available():
        command += ["-n", "5", "--dist", "loadfile"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = ended.stdout.strip().splitlines()
    for line in (line for line in lines if line.startswith(("FAILED", "ERROR"))):
        console.print(line, highlight=False, markup=False)
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", (lines or [""])[-1])}
    said = ", ".join(f"{n} {what}" for what, n in counts.items()) or ended.stderr.strip()[-200:]
    console.print(f"tests/cuda: {said}", markup=False)
    return counts


def training(sizes: Sizes, batch_size: int, card: Card, rounds: int, console: Console) -> dict[str, Any]:
    """Tokens per second of training steps in bf16 (autocast), with a clipped gradient and a fused AdamW."""
    ids = torch.randint(sizes.vocab_size, (batch_size, sizes.context + 1), device=card.device)
    contenders, memory = {}, {}
    for name in ("ours", "theirs", f"ours{COMPILED}", f"theirs{COMPILED}"):
        if COMPILED in name and batch_size != sizes.compiled:
            continue
        turn, memory[name] = fitting(partial(contender, name, sizes, ids), card.device)
        if turn is None:
            console.print(f"training, batch {batch_size}: {name} does not fit into the memory")
        else:
            contenders[name] = done(lambda turn=turn: [turn() for _ in range(sizes.steps)], card.device)  # type: ignore[misc]
    seconds = in_turns(contenders, rounds=rounds, repeats=1)
    tokens = batch_size * sizes.context * sizes.steps
    flops = flops_per_token(our_gpt(**sizes.of_model(sizes.context)), sizes.context)
    row: dict[str, Any] = {"batch": batch_size, "memory": memory, **spread(seconds, tokens)}
    pairs = {"ours": "theirs", f"ours{COMPILED}": f"theirs{COMPILED}"}
    row["ratios"] = {
        ours: ratios(seconds[theirs], seconds[ours])["ratio"]
        for ours, theirs in pairs.items()
        if ours in seconds and theirs in seconds
    }
    for name, figure in row["speed"].items():
        figure["share_of_peak"] = figure["median"] * flops / card.peak["bf16"]
        console.print(
            f"training {sizes.layers} x {sizes.width}, context {sizes.context}, batch {batch_size}, bf16, {name}: "
            f"{figure['median']:,.0f} tokens/s ({figure['lowest']:,.0f} to {figure['highest']:,.0f}), "
            f"{figure['share_of_peak']:.1%} of the matmul peak, {memory[name] / 1e9:.1f} GB"
        )
    for name, times in row["ratios"].items():
        console.print(f"training, batch {batch_size}: {name}: {times:.2f} times as fast as transformers")
    row["profile"] = {name: profile(turn, card.device) for name, turn in contenders.items() if name.startswith("ours")}
    for name, shares in row["profile"].items():
        console.print(f"where the time of {name} goes, batch {batch_size}: {listed(shares)}")
    return row


def contender(name: str, sizes: Sizes, ids: Tensor) -> Callable[[], None]:
    """A training step. Compiled, ours is what `--compile` makes of it, and theirs is compiled with its loss."""
    if name.startswith("ours"):
        ours = our_gpt(**sizes.of_model(sizes.context)).to(ids.device)
        if COMPILED in name and ids.is_cuda:
            replicate(ours, torch.optim.SGD(ours.parameters()), Processes(), compile=True)
        step = step_of(ours, our_loss(ours), torch.bfloat16)
        return lambda: step({"ids": ids})
    theirs = Rival(**sizes.of_model(sizes.context)).to(ids.device)
    loss: Callable[[Tensor], Tensor] = their_loss(theirs)
    if COMPILED in name:
        loss = torch.compile(loss, backend="inductor" if ids.is_cuda else "eager", dynamic=False)
    step = step_of(theirs, loss, torch.bfloat16)
    return lambda: step(ids)


def their_loss(rival: Rival) -> Callable[[Tensor], Tensor]:
    """As `transformers` computes it: logits in float32, and their mean cross-entropy."""

    def loss(ids: Tensor) -> Tensor:
        logits = rival.model(ids[:, :-1], use_cache=False).logits.float()
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    return loss


def fitting(make: Callable[[], Callable[[], None]], device: torch.device) -> tuple[Callable[[], None] | None, int]:
    """A step that has been taken once, and the bytes that its model, optimizer and activations took at most; None where
    they do not fit."""
    if device.type != "cuda":
        step = make()
        step()
        return step, 0
    gc.collect()  # models that were timed before
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        step = make()
        step()
        torch.cuda.synchronize()
    except torch.cuda.OutOfMemoryError:
        return None, 0
    return step, torch.cuda.max_memory_allocated() - before


def generation(sizes: Sizes, card: Card, rounds: int, console: Console) -> Iterable[dict[str, Any]]:
    """New tokens per second, greedy, with the cache of either side."""
    ours, theirs = (model.to(card.device) for model in generators(**sizes.of_model(PROMPT + sizes.new_tokens)))
    for precision, dtype in {"bf16": torch.bfloat16, "fp32": torch.float32}.items():
        ours, theirs = ours.to(dtype), theirs.to(dtype)
        weights = sum(p.numel() * p.element_size() for p in ours.parameters())
        for batch_size in sizes.prompts:
            prompts = torch.randint(1, sizes.vocab_size, (batch_size, PROMPT), device=card.device)
            turns = generations(ours, theirs, prompts, sizes.new_tokens)
            contenders = {name: done(turn, card.device) for name, turn in turns.items()}
            seconds = in_turns(contenders, rounds=min(rounds, 3), repeats=1)
            row: dict[str, Any] = {"batch": batch_size, "precision": precision}
            row |= spread(seconds, batch_size * sizes.new_tokens)
            row |= ratios(seconds["theirs"], seconds["ours"])
            mine, other = row["speed"]["ours"], row["speed"]["theirs"]
            row["share_of_read_rate"] = weights * mine["median"] / batch_size / card.read_rate
            row["profile"] = profile(contenders["ours"], card.device)
            console.print(
                f"generation {sizes.layers} x {sizes.width}, {precision}, batch {batch_size}: {mine['median']:,.0f} "
                f"tokens/s ({mine['lowest']:,.0f} to {mine['highest']:,.0f}) against {other['median']:,.0f} "
                f"({other['lowest']:,.0f} to {other['highest']:,.0f}): {row['ratio']:.2f} times as fast; weights read "
                f"at {row['share_of_read_rate']:.0%} of the read rate; {listed(row['profile'])}"
            )
            yield row


def spread(seconds: Mapping[str, list[float]], work: int) -> dict[str, dict[str, dict[str, float]]]:
    """What each side does of the `work` of a call per second: the median, the lowest and the highest of all rounds."""
    speeds = {name: [work / each for each in times] for name, times in seconds.items()}
    figures = {
        name: {"median": statistics.median(each), "lowest": min(each), "highest": max(each)}
        for name, each in speeds.items()
    }
    return {"speed": figures}


def profile(turn: Callable[[], None], device: torch.device) -> dict[str, float]:
    """The shares of the time of a call: of each kind of kernel, and on a GPU the time in which it had none."""
    on_gpu = device.type == "cuda"
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU], acc_events=True) as profiler:
        turn()
    averages = profiler.key_averages()
    whole = timed(turn) * 1e6
    shares = dict.fromkeys([*KINDS, "the rest, pass by pass over memory"], 0.0)
    for event in averages:
        kind = next((kind for kind, names in KINDS.items() if re.search(names, event.key.lower())), None)
        time = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        shares[kind or "the rest, pass by pass over memory"] += time / whole
    if on_gpu:
        shares["without a kernel"] = max(0.0, 1 - sum(shares.values()))
    return shares


def listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
