"""`python -m train.pretrain gpt`: read `pretrain` from top to bottom."""

import math
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console

from minitransformer.data.streams import StreamWindows
from minitransformer.data.token_cache import token_file
from minitransformer.errors import reported_to_user
from minitransformer.files import write_json
from train.engine.console import wide_console
from train.engine.loop import train
from train.engine.processes import Processes, joined
from train.engine.results import read_results
from train.engine.run_folder import create_run, open_run
from train.engine.signals import resumable
from train.pretrain.gpt.settings import GPTSettings
from train.pretrain.gpt.starting_model import starting_model
from train.pretrain.gpt.stream_loss import check_unknown, stream_loss
from train.pretrain.running_text import read_texts

DEFAULT_MINUTES = 2.5
# Scored during training, from all over the validation split; the figures at the end are of all of it.
TOKENS_TO_WATCH = 50_000


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user(), joined():
        settings, folder = open_run(GPTSettings, "pretrain gpt", arguments)
        with resumable("pretrain gpt", folder):
            pretrain(settings, folder, wide_console())


def pretrain(settings: GPTSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it, score it on every token of the validation split, and let it write."""
    finished = folder / "results.json"
    if finished.exists():
        results = read_results(finished, Results, together=TestResults)
        show(results, folder, console)
        return results
    processes = Processes.current()
    corpus = processes.local_rank_0_first(lambda: read_texts(settings.data))
    completer = starting_model(settings, corpus["train"])
    model, tokenizer = completer.model.to(settings.torch_device()), completer.tokenizer
    context = model.config.max_length if settings.context is None else settings.context
    splits = processes.local_rank_0_first(
        lambda: {name: token_file(texts, tokenizer) for name, texts in corpus.items()}
    )
    check_unknown(splits, tokenizer, settings.data)
    streams = {name: tokens.ids for name, tokens in splits.items()}
    feed = StreamWindows(streams["train"], context, batch_size=settings.batch_size, seed=settings.seed)
    settings.set_threads(model.num_parameters())
    create_run(folder, settings)
    sizes = ", ".join(f"{len(ids):,} {name}" for name, ids in streams.items())
    console.print(f"{settings.data}: {sizes} tokens, {tokenizer.get_vocab_size():,} kinds; writes {folder}")

    every = 1 + len(streams["validation"]) // TOKENS_TO_WATCH
    state = train(
        model,
        settings.new_optimizer(model),
        feed,
        settings.loop_options(default_minutes=DEFAULT_MINUTES),
        folder,
        evaluate=lambda model: {"loss": stream_loss(model, streams["validation"], context, every=every)},
        score=lambda result: (-result["loss"],),
        console=console,
        name="gpt",
    )
    if not processes.is_rank_0:
        return {}
    completer.save(folder)

    results = {
        "data": settings.data,
        "seed": settings.seed,
        "parameters": model.num_parameters(),
        "vocab_size": tokenizer.get_vocab_size(),
        "context": context,
        "seconds": state.seconds,
        "checkpoint_seconds": state.checkpoint_seconds,
        "steps": state.step,
        "best_step": state.best_step,
        "tokens_per_second": state.tokens / state.seconds,
    }
    for name in [name for name in ("validation", "test") if name in streams]:
        nats = stream_loss(model, streams[name], context)
        results[f"{name}_loss"] = nats
        results["bits_per_byte" if name == "validation" else "test_bits_per_byte"] = (
            nats * (len(streams[name]) - 1) / math.log(2) / corpus[name].content.num_bytes
        )
    results["sample"] = completer([""], max_new_tokens=300, temperature=0.8, seed=settings.seed)[0]
    results["validation"] = state.history
    write_json(finished, results)
    show(results, folder, console)
    return results


class Results(TypedDict):
    """What of them is shown; the second where the corpus has a test split."""

    sample: str
    validation_loss: float
    bits_per_byte: float
    parameters: int
    seconds: float
    steps: int
    tokens_per_second: float


class TestResults(TypedDict):
    test_loss: float
    test_bits_per_byte: float


def show(results: dict[str, Any], folder: Path, console: Console) -> None:
    """The figures and the sample."""
    console.print(f"\n{results['sample']}\n", markup=False, highlight=False, soft_wrap=True)
    for name, prefix in (("validation", ""), ("test", "test_")):
        if f"{name}_loss" in results:
            console.print(
                f"{name:>10}: {results[f'{name}_loss']:.4f} nats per token, "
                f"{results[f'{prefix}bits_per_byte']:.4f} bits per byte",
                highlight=False,
            )
    console.print(
        f"{results['parameters']:,} parameters, {results['seconds']:.0f} s of training, {results['steps']:,} steps, "
        f"{results['tokens_per_second']:,.0f} tokens/s\nresults, model and tokenizer are in {folder}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
