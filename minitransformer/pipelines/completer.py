"""Text in, its continuation out: a causal model with the tokenizer it was trained with."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.checks import require_given, require_whole
from minitransformer.decodable import MOST_NEW_TOKENS
from minitransformer.generation import sample, stream
from minitransformer.models import GPT
from minitransformer.page.recording import decoded, noted, steps_of
from minitransformer.page.views import Kind, View, grids_of
from minitransformer.pipelines import base
from minitransformer.tokenization import num_ids, stream_text, token_texts, unknown_characters


@dataclass(frozen=True)
class Completer:
    """Continues texts. The options of a call are those of `sample`, or of `stream` for one text as it is generated.

    An empty text starts from end-of-text. Of a text longer than the context the last part is read. One warning counts
    those, and one unknown characters; a byte-level tokenizer knows them all.
    """

    model: GPT
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        base.require_usable(self.model, (GPT,), self.tokenizer)

    @classmethod
    def load(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "Completer":
        """A run of `train.pretrain gpt`, or a checkpoint of Hugging Face that `GPT.from_pretrained` reads, with its
        `tokenizer.json`; `InputError` for others. A `dtype` of torch.bfloat16 takes half of the memory;
        torch.int8 is for a CPU, and faster still, with weights of 8 bits that cannot be saved."""
        return cls(*base.load_with_tokenizer(folder, GPT, "which does not continue texts", dtype))

    def save(self, folder: str | Path) -> Path:
        """Write the model and `tokenizer.json`."""
        return base.save(self.model, {"tokenizer.json": self.tokenizer}, folder)

    @base.one_or_many
    def __call__(self, texts: str | Sequence[str], **options: Any) -> str | list[str]:
        """The continuation of each text, all in one batch."""
        if not texts:
            return []
        ids, valid = self._batch(texts)
        options = {"vocab_size": num_ids(self.tokenizer), **options}
        new = sample(self.model, ids, valid, **options).tolist()
        read = [row[real].tolist() for row, real in zip(ids, valid, strict=True)]
        before = self.tokenizer.decode_batch(read)  # some decoders leave out the space before the first token of a text
        whole = self.tokenizer.decode_batch([[*old, *more] for old, more in zip(read, new, strict=True)])
        return [text[len(prompt) :] for text, prompt in zip(whole, before, strict=True)]

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """The continuation of one text, in pieces as they are generated."""
        base.require_text(text)
        ids, valid = self._batch([text])
        options = {"vocab_size": num_ids(self.tokenizer), **options}
        new = (int(token) for token in stream(self.model, ids, valid, **options))
        return stream_text(self.tokenizer, new, after=ids[0].tolist())

    def view(self, text: str, *, max_new_tokens: int = 20, title: str | None = None) -> View:
        """Where every head looked while the text was read and continued greedily, for `attention_page`; the `title` is
        that of the model."""
        base.require_text(text)
        require_given(max_new_tokens=max_new_tokens)
        require_whole("max_new_tokens", max_new_tokens, at_least=1, at_most=MOST_NEW_TOKENS)
        with noted() as notes:
            ids, valid = self._batch([text])
            read = ids[0].tolist() or [self.model.config.eos_id]
            room = self.model.config.max_length + 1 - len(read)
            if room < max_new_tokens:
                warnings.warn(f"{room} new tokens fill the context of the model, not {max_new_tokens}", stacklevel=2)
            limit = min(room, max_new_tokens)
            found = decoded(self.model, ids, valid, max_new_tokens=limit, vocab_size=num_ids(self.tokenizer))
        tokens = token_texts(self.tokenizer, [*read, *found.ids[:-1]])
        grids = grids_of(found.maps, {"decoder": (tokens, tokens)}, {"decoder": range(len(read) - 1, len(tokens))})
        title = title or type(self.model).__name__
        return View(title, text, grids, steps_of(self.tokenizer, read, found), tuple(notes))

    def map_sizes(self, text: str, *, max_new_tokens: int = 20) -> dict[Kind, tuple[int, int]]:
        """The most queries and keys of the maps of `view(text)`, by their kind, without running the model."""
        ids, _ = self._batch([text])
        count = min(max(1, ids.shape[1]) + max_new_tokens - 1, self.model.config.max_length)
        return {"decoder": (count, count)}

    def _first_ids(self) -> list[int]:
        """The `bos_id`, if the model has one of its own and the tokenizer puts it before a text, as Llama's do."""
        whole = self.tokenizer.encode("a")
        count = next((i for i, special in enumerate(whole.special_tokens_mask) if not special), 0)
        return whole.ids[:count] if self.model.config.bos_id in whole.ids[:count] else []

    def _batch(self, texts: Sequence[str]) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
        base.warn_of_unknown(unknown_characters(self.tokenizer, texts))
        limit = self.model.config.max_length
        first = self._first_ids()
        rows = [[*first, *each.ids] for each in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        long = [number for number, row in enumerate(rows, start=1) if len(row) > limit]
        base.warn_of_cut("text", len(long), len(rows), limit, long, kept="of which the last are read")
        return base.padded([row[-limit:] for row in rows], self.model.config.eos_id, self.model.device)
