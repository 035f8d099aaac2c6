"""`python -m train.pretrain gpt`: pretrain a causal model on running text. Read `pretrain` from top to bottom."""

import math
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console

from minitransformer.data import load
from minitransformer.data.packed_documents import PackedDocuments, are_short, document_lengths
from minitransformer.data.streams import StreamWindows, stream_rows
from minitransformer.models import GPT
from train.engine.loop import train
from train.engine.processes import Processes
from train.engine.results import finish, run_figures, show_run
from train.engine.run_folder import create_run, run_job
from train.engine.sample_texts import continuation
from train.engine.tokenizer_text import check_unknown
from train.pretrain.gpt.settings import GPTSettings
from train.pretrain.gpt.starting_model import starting_model
from train.pretrain.gpt.stream_loss import documents_loss, stream_loss

DEFAULT_MINUTES = 2.5
TOKENS_TO_WATCH = 50_000
"""Validation tokens, spread over the split, that each evaluation during training reads. The final figures read all."""

GUESSES = {
    True: "most texts fit into --context: each is predicted as if it were alone; for one stream: --texts stream",
    False: "the texts are one stream in windows of --context; to predict each as if it were alone: --texts alone",
}


def main(arguments: list[str] | None = None) -> None:
    run_job(GPTSettings, "pretrain gpt", pretrain, arguments)


def pretrain(settings: GPTSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it, score it on every held-out token, and let it write a sample."""
    processes = Processes.current()
    corpus = processes.local_rank_0_first(lambda: load(settings.data, kind="text", text=settings.text))
    completer = starting_model(settings, corpus["train"])
    model, tokenizer = completer.model.to(settings.torch_device()), completer.tokenizer
    context = settings.context or model.config.max_length
    splits = processes.local_rank_0_first(lambda: {name: stream_rows(text, tokenizer) for name, text in corpus.items()})
    check_unknown(splits, settings.data)
    size: dict[str, Any] = {"batch_size": settings.batch_size, "seed": settings.seed}
    lengths = document_lengths(splits["train"])
    alone = are_short(lengths, context) if settings.texts is None else settings.texts == "alone"
    packed = {name: PackedDocuments(rows, context, **size) for name, rows in splits.items() if alone}
    feed = packed["train"] if alone else StreamWindows(splits["train"].ids, context, **size)

    def loss(model: GPT, split: str, every: int = 1) -> float:
        if alone:
            return documents_loss(model, packed[split], every=every)
        return stream_loss(model, splits[split].ids, context, every=every)

    settings.set_threads(model.num_parameters())
    create_run(folder, settings)
    sizes = ", ".join(f"{len(rows.ids):,} {name}" for name, rows in splits.items())
    console.print(f"{settings.data}: {sizes} tokens, {tokenizer.get_vocab_size():,} kinds; writes {folder}")
    if settings.is_given("batch_size") and len(batches := feed.epoch(0)) == 1:
        windows = len(feed.batch(batches[0])["ids"])
        if windows < settings.batch_size:
            warnings.warn(
                f"--batch-size {settings.batch_size:,}: the training text has {windows:,} windows of {context:,} "
                "tokens (--context), which are one batch",
                stacklevel=2,
            )
    if settings.texts is None and len(lengths) > 1:
        console.print(GUESSES[alone])

    every = 1 + len(splits["validation"].ids) // TOKENS_TO_WATCH
    state = train(
        model,
        settings.new_optimizer(model),
        feed,
        settings.loop_options(minutes=DEFAULT_MINUTES, choices=tokenizer.get_vocab_size()),
        folder,
        evaluate=lambda model: {"loss": loss(model, "validation", every)},
        samples=continuation(tokenizer, settings.seed) if settings.samples else None,
        console=console,
        name="gpt",
    )
    if not processes.is_rank_0:
        return {}
    completer.save(folder)

    results = {
        "data": settings.data,
        "vocab_size": tokenizer.get_vocab_size(),
        "context": context,
        "seed": settings.seed,
        **run_figures(model.num_parameters(), state),
        "sample": completer([""], max_new_tokens=300, temperature=0.8, seed=settings.seed)[0],
        "validation": state.history,
    }
    console.print(f"\n{results['sample']}\n", highlight=False, soft_wrap=True)
    for split in [split for split in ("validation", "test") if split in splits]:
        nats = loss(model, split)
        targets = packed[split].targets if alone else len(splits[split].ids) - 1
        bits = nats * targets / math.log(2) / int(splits[split].columns["bytes"].sum())
        results |= {f"{split}_loss": nats, "bits_per_byte" if split == "validation" else "test_bits_per_byte": bits}
        console.print(f"{split:>10}: {nats:.4f} nats per token, {bits:.4f} bits per byte", highlight=False)
    finish(folder, results, settings.run_id)
    show_run(results, folder, console)
    return results


if __name__ == "__main__":
    main()
