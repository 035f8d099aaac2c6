"""Text in, text out: a causal model with the tokenizer it was trained with."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.files import atomic
from minitransformer.generation import sample, stream
from minitransformer.models import GPT
from minitransformer.text_encoding import pad
from minitransformer.tokenization import load_tokenizer, stream_text, unknown_characters


@dataclass(frozen=True)
class Completer:
    """Goes on with texts. Options of a call are those of `sample`, or of `stream` for one text as it comes.

    A prompt without text starts from end-of-text, and of one longer than the context the last part is read. Unknown
    characters, which a byte-level tokenizer has none of, are counted in a warning.
    """

    model: GPT
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> "Completer":
        """A run of `train.pretrain gpt`, or a GPT-2 checkpoint with its `tokenizer.json`; `InputError` for others."""
        import minitransformer

        folder = Path(folder)
        model = minitransformer.load(folder)
        if not isinstance(model, GPT):
            raise InputError(f"{folder} holds a {type(model).__name__}, which does not go on with a text")
        tokenizer = load_tokenizer(folder / "tokenizer.json", vocab_size=model.config.vocab_size)
        return cls(model, tokenizer)

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        folder = self.model.save(folder)
        with atomic(folder / "tokenizer.json") as temporary:
            self.tokenizer.save(str(temporary))
        return folder

    def __call__(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """What follows each prompt, all in one batch."""
        inputs, valid = self._batch(prompts)
        output = sample(self.model, inputs, valid, **options)
        return self.tokenizer.decode_batch(output.tolist())

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """What follows one prompt, in pieces as they come."""
        inputs, valid = self._batch([prompt])
        steps = stream(self.model, inputs, valid, **options)
        return stream_text(self.tokenizer, (int(ids) for ids in steps))

    def _batch(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        unknown = unknown_characters(self.tokenizer, prompts)
        if unknown:
            shown = ", ".join(f"{character!r} ({count})" for character, count in unknown.most_common(5))
            warnings.warn(f"unknown to the model and read as such: {shown}", stacklevel=3)
        encodings = self.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        lengths = torch.tensor([len(encoding.ids) for encoding in encodings])
        inputs = pad([encoding.ids for encoding in encodings], self.model.config.eos_id)
        valid = torch.arange(inputs.shape[1]) < lengths[:, None]
        return inputs.to(self.model.device), valid.to(self.model.device)
