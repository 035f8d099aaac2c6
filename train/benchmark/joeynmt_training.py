"""Training of the Transformer against JoeyNMT's own trainer, on the same pairs in the same pieces."""

import importlib.util
import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from minitransformer.data import load
from minitransformer.data.pair_batches import Seq2SeqData
from minitransformer.models import Transformer, TransformerConfig
from minitransformer.tokenization import BOS, EOS, PAD, UNK, special_id
from train.benchmark.timing import Machine, our_loss, ratios, step_of, times_as_fast
from train.benchmark.translation import SIZES
from train.benchmark.translation_training import BATCH_TOKENS, DROPOUT, SMOOTHING, profile
from train.translate.data import tokenizers_for
from train.translate.recipes import BATCHES

VOCAB = 8000
SECONDS = 4.0
"""How long a turn of either side takes at least. A step of JoeyNMT takes about as long."""
SOURCE, TARGET = "source", "target"
SPECIAL_WORDS = {"unk": (UNK, "<unk>"), "pad": (PAD, "<pad>"), "bos": (BOS, "<s>"), "eos": (EOS, "</s>")}

Turn = Callable[[float], tuple[int, int, float]]
"""Trains for at least that many seconds. Returns target tokens, steps and seconds."""


def joeynmt_training(settings: Any, machine: Machine, console: Console) -> list[dict[str, Any]]:
    """Real target tokens per second of training, batches included, and where our time goes."""
    split = load(settings.data, source=settings.source, target=settings.target, kind="pairs")["train"]
    tokenizer, _ = tokenizers_for(split, "bpe", vocab_size=VOCAB, joint=True)
    pairs = Seq2SeqData(split, tokenizer, tokenizer)
    special = {name: special_id(tokenizer, token) for name, (token, _) in SPECIAL_WORDS.items()}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        theirs = joeynmt_turn(pairs, special, tokenizer.get_vocab_size(), Path(folder))
        if theirs is None:
            console.print("JoeyNMT is not installed and is left out (see docs/training.md)")
        for precision, dtype, _ in machine.precisions():
            ours = our_turn(pairs, special, tokenizer.get_vocab_size(), dtype)
            sides = {"ours": ours} if theirs is None else {"ours": ours, "theirs": theirs}
            row = {"precision": precision} | measured(sides, settings)
            row["profile"] = profile(partial(ours, 0.0))
            print_row(row, console)
            rows.append(row)
    return rows


def measured(sides: dict[str, Turn], settings: Any) -> dict[str, Any]:
    """Medians of tokens/s and of target tokens per step, the slowest and the fastest turn, and the `ratio`."""
    turns: dict[str, list[tuple[int, int, float]]] = {name: [] for name in sides}
    for turn in sides.values():
        turn(0.0)  # one step to warm up
    for _ in range(settings.rounds):
        for name, turn in sides.items():
            turns[name].append(turn(0.0 if settings.quick else SECONDS))
    row: dict[str, Any] = {}
    for name, found in turns.items():
        rates = [tokens / seconds for tokens, _, seconds in found]
        row |= {name: statistics.median(rates), f"{name}_lowest": min(rates), f"{name}_highest": max(rates)}
        row[f"{name}_tokens_per_step"] = sum(tokens for tokens, _, _ in found) / sum(steps for _, steps, _ in found)
    if "theirs" in turns:
        times = {name: [seconds / tokens for tokens, _, seconds in found] for name, found in turns.items()}
        row |= ratios(times["theirs"], times["ours"])
    return row


def print_row(row: dict[str, Any], console: Console) -> None:
    texts = {
        name: f"{row[name]:,.0f} target tokens/s ({row[f'{name}_lowest']:,.0f} to {row[f'{name}_highest']:,.0f}; "
        f"{row[f'{name}_tokens_per_step']:,.0f} a step)"
        for name in ("ours", "theirs")
        if name in row
    }
    line = f"translation 3 + 3 x 256, {row['precision']}: {texts['ours']}"
    if "theirs" in texts:
        line += f" against {texts['theirs']} of JoeyNMT in fp32, all it has on a CPU: {times_as_fast(row)}"
    console.print(line)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in row["profile"].items())
    console.print(f"where our time goes, {row['precision']}: {shares}")


def our_turn(pairs: Seq2SeqData, special: dict[str, int], vocab_size: int, dtype: torch.dtype | None) -> Turn:
    """Our Transformer, with batches by length as `train.translate` has them."""
    torch.manual_seed(0)
    model = Transformer(
        TransformerConfig(
            **SIZES,
            source_vocab_size=vocab_size,
            target_vocab_size=vocab_size,
            share_embeddings=True,
            pre_norm=True,
            max_length=int(pairs.lengths.max()),
            pad_id=special["pad"],
            bos_id=special["bos"],
            eos_id=special["eos"],
            dropout=DROPOUT,
            attention_dropout=0.0,
            label_smoothing=SMOOTHING,
        )
    )
    step = step_of(model, our_loss(model), dtype)
    batches = (
        rows for epoch in range(1 << 30) for rows in pairs.batches(BATCH_TOKENS, seed=epoch, pool=BATCHES["pool"])
    )

    def turn(seconds: float) -> tuple[int, int, float]:
        tokens, steps, began = 0, 0, time.perf_counter()
        while not steps or time.perf_counter() - began < seconds:
            batch = pairs.batch(next(batches))
            step(batch)
            tokens += int((batch["target_ids"][:, 1:] != special["pad"]).sum())
            steps += 1
        return tokens, steps, time.perf_counter() - began

    return turn


def joeynmt_turn(pairs: Seq2SeqData, special: dict[str, int], vocab_size: int, folder: Path) -> Turn | None:
    """JoeyNMT's Transformer, data sets and `TrainManager`, which write into `folder`; None without JoeyNMT.

    They run in a process of their own, as a user runs them: our memory settings would make them faster. JoeyNMT reads
    the pieces as words, so that it spends no time on cutting words. Its batches are random; their size counts the
    longer side of the longest pair. Dropout on attention weights cannot be turned off alone.
    """
    if importlib.util.find_spec("joeynmt") is None:
        return None
    write_words(pairs, special, vocab_size, folder)
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    arguments = (theirs, configuration(folder), torch.get_num_threads())
    spawn.Process(target=serve_turns, args=arguments, daemon=True).start()
    theirs.close()

    def turn(seconds: float) -> tuple[int, int, float]:
        ours.send(seconds)
        found: tuple[int, int, float] = ours.recv()
        return found

    return turn


def serve_turns(connection: Any, config: dict[str, Any], threads: int) -> None:
    """JoeyNMT's side of `connection`: takes the seconds of a turn, answers with its figures."""
    torch.set_num_threads(threads)
    trainer = joeynmt_trainer(config)
    with suppress(EOFError, OSError):  # the benchmark has ended
        while True:
            connection.send(trainer.turn(connection.recv()))


def joeynmt_trainer(config: dict[str, Any]) -> Any:
    """JoeyNMT's own trainer, which ends after the step in which a turn's time is up, and keeps no checkpoint."""
    from joeynmt.config import parse_global_args
    from joeynmt.prediction import prepare
    from joeynmt.training import TrainManager

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("joeynmt"):
            logging.getLogger(name).setLevel(logging.WARNING)
    args = parse_global_args(config)
    model, data, _, _ = prepare(args, rank=0, mode="train")

    class Trainer(TrainManager):
        seconds = 0.0

        def _log_scores(self, epoch_no: int, elapsed: float, start_tokens: int, *rest: Any) -> None:
            """Called after each step, with the seconds since the one before."""
            self.seconds += elapsed
            self.stats.is_max_update = self.seconds >= self.most_seconds

        def _save_checkpoint(self, *_: Any) -> None:
            pass

        def turn(self, seconds: float) -> tuple[int, int, float]:
            self.seconds, self.most_seconds, self.stats.is_max_update = 0.0, seconds, False
            tokens, steps = self.stats.total_tokens, self.stats.steps
            self.seed += 1  # other batches than in the turn before
            self.train_and_validate(data, data)
            return self.stats.total_tokens - tokens, self.stats.steps - steps, self.seconds

    return Trainer(
        rank=0,
        model=model,
        model_dir=args.model_dir,
        device=args.device,
        autocast=args.autocast,
        seed=args.seed,
        train_args=args.train,
        dev_args=args.test,
    )


def write_words(pairs: Seq2SeqData, special: dict[str, int], vocab_size: int, folder: Path) -> None:
    """The pairs as lines of words, one word for each piece, and the list of all words."""
    words = [f"piece{number}" for number in range(vocab_size)]
    for name, number in special.items():
        words[number] = SPECIAL_WORDS[name][1]
    frame = {special["bos"], special["eos"]}
    sides: dict[str, list[str]] = {SOURCE: [], TARGET: []}
    for row in range(len(pairs)):
        batch = pairs.batch([row])
        for side, lines in sides.items():
            lines.append(" ".join(words[number] for number in batch[f"{side}_ids"][0].tolist() if number not in frame))
    for side, lines in sides.items():
        (folder / f"train.{side}").write_text("".join(f"{line}\n" for line in lines))
    (folder / "words").write_text("".join(f"{word}\n" for word in words))


def configuration(folder: Path) -> dict[str, Any]:
    """JoeyNMT's settings: its Transformer at our sizes, with one table for both embeddings and the output layer."""
    side = {
        "type": "transformer",
        "num_heads": SIZES["num_heads"],
        "hidden_size": SIZES["d_model"],
        "ff_size": SIZES["d_ff"],
        "dropout": DROPOUT,
        "layer_norm": "pre",
        "embeddings": {"embedding_dim": SIZES["d_model"], "scale": True, "dropout": DROPOUT},
    }
    words = {"level": "word", "voc_file": str(folder / "words")}
    return {
        "name": "rival",
        "model_dir": str(folder),
        "use_cuda": False,
        "data": {
            "train": str(folder / "train"),
            "dataset_type": "plain",
            "src": {"lang": SOURCE, **words},
            "trg": {"lang": TARGET, **words},
        },
        "training": {
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "scheduling": "noam",
            "label_smoothing": SMOOTHING,
            "normalization": "tokens",
            "clip_grad_norm": 1.0,
            "batch_size": BATCH_TOKENS,
            "batch_type": "token",
            "logging_freq": 1,
            "validation_freq": 1 << 62,
            "epochs": 1 << 30,
        },
        "testing": {},
        "model": {
            "encoder": {**side, "num_layers": SIZES["num_encoder_layers"]},
            "decoder": {**side, "num_layers": SIZES["num_decoder_layers"]},
            "tied_embeddings": True,
            "tied_softmax": True,
        },
    }
