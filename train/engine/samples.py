"""What a model writes at each evaluation: shown with its scores, and kept in `samples.jsonl`, a JSON object a line."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minitransformer.files import atomic, open_regular
from train.engine.checkpoint import undisturbed
from train.engine.metrics_file import line_values

SAMPLES = "samples.jsonl"
Sample = Mapping[str, str]
"""Texts by what they are: {"source": ..., "translation": ..., "reference": ...}."""
SHOWN = 200
"""Characters of a text on the terminal. The file has all of them."""


class Samples:
    """`make` returns the samples of a model, in evaluation mode; None for a run without samples."""

    def __init__(self, make: Callable[[Any], Sequence[Sample]] | None, folder: Path):
        self.make, self.path = make, folder / SAMPLES

    def resume(self, step: int) -> None:
        """Drop damaged lines and those after `step`, the step of the checkpoint that the run resumes from."""
        if self.make is None or not self.path.exists():
            return
        with open(self.path, "rb", opener=open_regular) as file:
            kept = [line for line in file if (values := line_values(line)) and values["step"] <= step]
        with atomic(self.path) as temporary:
            temporary.write_bytes(b"".join(kept))

    def of(self, model: Any) -> list[Sample]:
        """What `model` writes now. Training draws the same random numbers as without it."""
        if self.make is None:
            return []
        with undisturbed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # early on no text ends; what the final model lacks is said in the end
            return list(self.make(model))

    def write(self, place: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        with open(self.path, "a", encoding="utf-8", opener=open_regular) as file:
            file.write(json.dumps({**place, "samples": samples}, ensure_ascii=False) + "\n")


def sample_lines(samples: Sequence[Sample]) -> Iterator[str]:
    """The samples for a terminal, a line for each text; white space becomes a single space, control characters "?"."""
    for sample in samples:
        for name, text in sample.items():
            line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
            yield f"    {name}: {line[:SHOWN]}{'…' if len(line) > SHOWN else ''}"
