"""`python -m train.pretrain gpt`: read `pretrain` from top to bottom."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from rich.console import Console
from tokenizers import Tokenizer

from minitransformer.data.running_text import Texts
from minitransformer.data.streams import StreamWindows
from minitransformer.data.token_cache import token_file
from minitransformer.errors import InputError, reported_to_user
from minitransformer.files import write_json
from minitransformer.models import GPT, GPTConfig
from minitransformer.pipelines.completer import Completer
from minitransformer.tokenization import (
    end_of_text_id,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
)
from train.engine.console import wide_console
from train.engine.loop import train
from train.engine.processes import Processes, joined
from train.engine.results import read_results
from train.engine.run_folder import create_run, open_run
from train.engine.signals import resumable
from train.pretrain.common import (
    MODERN,
    PretrainingSettings,
    check_unknown,
    for_training_tokenizers,
    read_texts,
    warn_of_small_vocabulary,
)
from train.pretrain.stream_loss import stream_loss

DEFAULT_MINUTES = 2.5
# Scored during training, from all over the validation split; the figures at the end are of all of it.
TOKENS_TO_WATCH = 50_000


@dataclass(frozen=True)
class PretrainSettings(PretrainingSettings):
    """Pretrain a causal model: its weights, `tokenizer.json` and figures go into the run folder.

    2.5 minutes of training if no length is given.
    """

    data: str = "shakespeare"
    """shakespeare, hub:NAME, or a path: a .txt file (its last tenth is validation), a table with a column text, or a
    folder of train and validation files."""
    tokenizer: Literal["character", "bpe", "byte-bpe"] = "character"
    """Trained on the training text."""
    vocab_size: int | None = None
    """Of bpe and byte-bpe. Default: 2,000."""

    init: Path | None = None
    """Go on from the weights, sizes and tokenizer of a run or of a GPT-2 checkpoint."""
    architecture: Literal["modern", "gpt2"] = "modern"
    """modern: rotary positions, RMSNorm, QK-norm, squared ReLU, no biases, output projections that start at zero."""
    num_layers: int | None = None
    """Default: 4."""
    d_model: int | None = None
    """Default: 128."""
    num_heads: int | None = None
    """Default: 4."""
    num_kv_heads: int | None = None
    """Heads of keys and values. Default: as many as --num-heads."""
    d_ff: int | None = None
    """Default: 4 x --d-model."""
    context: int | None = None
    """Tokens that the model sees at once. Default: 128."""
    dropout: float = 0.0

    batch_size: int = 16
    """Windows of --context tokens in a batch."""

    def validate(self) -> None:
        super().validate()
        sizes = ("num_layers", "d_model", "num_heads", "num_kv_heads", "d_ff", "vocab_size")
        self.require_positive(*sizes, "context", "batch_size")
        if self.vocab_size is not None and self.tokenizer == "character":
            raise InputError(f"--vocab-size {self.vocab_size} is for --tokenizer bpe or byte-bpe")
        if self.init is not None:
            self.refuse_beside_init(self.init, *sizes)


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user(), joined():
        settings, folder = open_run(PretrainSettings, "pretrain gpt", arguments)
        with resumable("pretrain gpt", folder):
            pretrain(settings, folder, wide_console())


def pretrain(settings: PretrainSettings, folder: Path, console: Console) -> dict[str, Any]:
    """Train one model, save it, score it on every token of the validation split, and let it write."""
    finished = folder / "results.json"
    if finished.exists():
        results = read_results(finished, Results, together=TestResults)
        show(results, folder, console)
        return results
    processes = Processes.current()
    corpus = processes.local_rank_0_first(lambda: read_texts(settings.data))
    completer = start(settings, corpus["train"])
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


def start(settings: PretrainSettings, train_split: Texts) -> Completer:
    """A new model with a tokenizer of the training text, or those of `--init`."""
    torch.manual_seed(settings.seed)
    if settings.init is not None:
        completer = Completer.load(settings.init)
        limit = completer.model.config.max_length
        if completer.model.positions is not None and (settings.context or 0) > limit:
            raise InputError(f"--context {settings.context}: {settings.init} has learned positions for {limit} tokens")
        return completer
    tokenizer = Processes.current().on_rank_0(lambda: train_tokenizer(settings, train_split))
    config = GPTConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_length=settings.context or 128,
        d_model=settings.d_model or 128,
        num_heads=settings.num_heads or 4,
        num_kv_heads=settings.num_kv_heads,
        d_ff=settings.d_ff,
        num_layers=settings.num_layers or 4,
        eos_id=end_of_text_id(tokenizer),
        dropout=settings.dropout,
        **(MODERN if settings.architecture == "modern" else {}),
    )
    model = GPT(config)
    if settings.architecture == "modern":
        model.init_weights(zero_residual=True)
    return Completer(model, tokenizer)


def train_tokenizer(settings: PretrainSettings, split: Texts) -> Tokenizer:
    if settings.tokenizer == "character":
        return train_character_tokenizer("".join(set(block)) for block in split.blocks())
    train_pieces = train_bpe_tokenizer if settings.tokenizer == "bpe" else train_byte_bpe_tokenizer
    size = settings.vocab_size or 2000
    tokenizer = train_pieces(for_training_tokenizers(split), size)
    warn_of_small_vocabulary(tokenizer, size)
    return tokenizer


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
