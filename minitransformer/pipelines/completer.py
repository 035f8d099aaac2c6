"""Text in, its continuation out: a causal model with the tokenizer it was trained with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.generation import sample, stream
from minitransformer.models import GPT
from minitransformer.pipelines import base
from minitransformer.tokenization import load_tokenizer, stream_text, unknown_characters


@dataclass(frozen=True)
class Completer:
    """Continues texts. The options of a call are those of `sample`, or of `stream` for one text as it is generated.

    An empty prompt starts from end-of-text. Of a prompt longer than the context the last part is read. One warning
    counts unknown characters; a byte-level tokenizer knows them all.
    """

    model: GPT
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> "Completer":
        """A run of `train.pretrain gpt`, or a GPT-2 checkpoint with its `tokenizer.json`; `InputError` for others."""
        model = base.load_model(folder, GPT, "which does not continue texts")
        return cls(model, load_tokenizer(Path(folder) / "tokenizer.json", vocab_size=model.config.vocab_size))

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        return base.save(self.model, {"tokenizer.json": self.tokenizer}, folder)

    def __call__(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """The continuation of each prompt, all in one batch."""
        ids, valid = self._batch(prompts)
        return self.tokenizer.decode_batch(sample(self.model, ids, valid, **options).tolist())

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """The continuation of one prompt, in pieces as they are generated."""
        ids, valid = self._batch([prompt])
        return stream_text(self.tokenizer, (int(ids) for ids in stream(self.model, ids, valid, **options)))

    def _batch(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
        base.warn_of_unknown(unknown_characters(self.tokenizer, prompts))
        encodings = self.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        return base.padded([encoding.ids for encoding in encodings], self.model.config.eos_id, self.model.device)
