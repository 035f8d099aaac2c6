"""Measure the library against its rivals, side by side in one run on one machine.

python -m train.benchmark                                         every part that needs no data
python -m train.benchmark --parts gpt-quality --data text.txt     time until a validation loss
python -m train.benchmark --parts joeynmt-training --data pairs   training beside JoeyNMT's own trainer

The rivals are installed with the package's `test` extra.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console

from minitransformer.checks import Count, Range, require_ranges
from minitransformer.errors import InputError
from minitransformer.files import write_json
from minitransformer.reporting import reported_to_user
from train.benchmark.bert import bert_training, minilm_finetuning
from train.benchmark.checkpoints import checkpoint_cost
from train.benchmark.gpt import gpt_generation, gpt_quality, gpt_training
from train.benchmark.gpu import gpu
from train.benchmark.int8 import gpt_int8
from train.benchmark.joeynmt_training import joeynmt_training
from train.benchmark.kernels import kernel_gains
from train.benchmark.llama import llama_generation
from train.benchmark.timing import Machine
from train.benchmark.translation import beam_search_speed
from train.benchmark.translation_training import translation_training
from train.engine.console import wide_console
from train.engine.flags_file import settings_of, write_flags
from train.engine.freed_memory import keep_freed_memory
from train.engine.settings import Configurable, Threads, distinct

PARTS: dict[str, Callable[..., Any]] = {
    "gpt-training": gpt_training,
    "gpt-generation": gpt_generation,
    "llama-generation": llama_generation,
    "gpt-quality": gpt_quality,
    "gpt-int8": gpt_int8,
    "bert-training": bert_training,
    "minilm-finetuning": minilm_finetuning,
    "translation-training": translation_training,
    "joeynmt-training": joeynmt_training,
    "beam-search": beam_search_speed,
    "checkpoints": checkpoint_cost,
    "kernels": kernel_gains,
    "gpu": gpu,
}
READERS = ("gpt-quality", "joeynmt-training")
"""The parts that train on --data."""


@dataclass(frozen=True)
class BenchmarkSettings(Configurable):
    """Measure the library against its rivals, side by side in one run on one machine."""

    parts: str = "gpt-training,gpt-generation,bert-training,translation-training,beam-search"
    """What to measure, separated by commas: gpt-training, gpt-generation, llama-generation, gpt-quality, gpt-int8
    (generation with weights of 8 bits), bert-training, translation-training, joeynmt-training, beam-search,
    minilm-finetuning (downloads MiniLM and reviews once), checkpoints (the cost of writing one), kernels (what each
    kernel gains), gpu (the tests and the speed of one GPU)."""
    data: str | None = None
    """The text for gpt-quality and gpt-int8: a path, or shakespeare. The pairs for joeynmt-training, as for
    train.translate."""
    source: str | None = None
    """The column or the suffix of the sources for joeynmt-training, such as de."""
    target: str | None = None
    """The column or the suffix of the targets, such as en."""
    target_loss: Annotated[float, Range(more_than=0)] = 1.88
    """The validation loss, in nats per character, that gpt-quality trains our model to."""
    threads: Threads | None = None
    """CPU threads. Default: all cores."""
    rounds: Count = 5
    """How often each side is timed, in turns; the median counts."""
    quick: bool = False
    """A few steps of each, to see that everything runs; the figures mean nothing."""
    out: Path | None = None
    """A .json file for the figures."""

    def part_names(self) -> list[str]:
        require_ranges(self)
        names = distinct("--parts", self.parts)
        if unknown := [name for name in names if name not in PARTS]:
            raise InputError(f"--parts {','.join(unknown)}: not among {', '.join(PARTS)}")
        of_pairs = "joeynmt-training" in names
        of_texts = not {"gpt-quality", "gpt-int8"}.isdisjoint(names)
        if (of_pairs or of_texts) != (self.data is not None):
            raise InputError(
                "--parts gpt-quality, gpt-int8 and joeynmt-training need --data to train on; other parts read none"
            )
        if of_pairs and of_texts:
            raise InputError(
                "--parts joeynmt-training reads pairs from --data, gpt-quality and gpt-int8 a text: run it alone"
            )
        if not of_pairs and (self.source is not None or self.target is not None):
            raise InputError("--source and --target are for --parts joeynmt-training alone")
        return names


def main(arguments: list[str] | None = None) -> None:
    with reported_to_user():
        settings = settings_of(BenchmarkSettings, "benchmark", arguments)
        names = settings.part_names()
        try:
            import transformers
        except ImportError as error:
            raise InputError("the rivals are missing: pip install 'minitransformer[test]'") from error
        transformers.logging.set_verbosity_error()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        benchmark(settings, names, wide_console())


def benchmark(settings: BenchmarkSettings, names: list[str], console: Console) -> dict[str, Any]:
    machine = Machine.measured()
    console.print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}: "
        f"{machine.peak / 1e9:,.0f} GFLOP/s in fp32, {machine.bfloat16_peak / 1e9:,.1f} in bf16, "
        f"{machine.read_rate / 1e9:.1f} GB/s read"
    )
    if not machine.bfloat16_pays:
        console.print("bf16 is slower than fp32 here: fp32 is each side's best precision")
    keep_freed_memory()  # for all sides
    figures = {"machine": machine.to_dict(), **{name: PARTS[name](settings, machine, console) for name in names}}
    if settings.out is not None:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        write_flags(settings.out.with_suffix(".flags.toml"), settings, "benchmark")
        write_json(settings.out, figures)
    return figures


if __name__ == "__main__":
    main()
