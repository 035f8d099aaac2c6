"""Running text as one long row of tokens, cut into windows to train a causal model on."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batching import RowBatches
from minitransformer.data.running_text import pieces
from minitransformer.errors import InputError
from minitransformer.tokenization import end_of_text_id

_PIECE = 1 << 13  # characters to encode at once: an encoding takes a hundred times the room of its ids


def token_stream(texts: Iterable[str], tokenizer: Tokenizer) -> Int[Tensor, "tokens"]:
    """End-of-text and then the tokens of a text, for each of `texts`: so every token of text has one before it."""
    parts = list(stream_parts(((text,) for text in texts), tokenizer))
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.empty(0, dtype=torch.int32)


def stream_parts(texts: Iterable[Iterable[str]], tokenizer: Tokenizer) -> Iterator[NDArray[np.int32]]:
    """The same in parts, of texts that come as blocks."""
    end_of_text = np.array([end_of_text_id(tokenizer)], dtype=np.int32)
    table = _character_table(tokenizer)
    for text in texts:
        yield end_of_text
        if table is not None:
            yield from (table[np.frombuffer(block.encode("utf-32-le"), dtype="<u4")] for block in text)
            continue
        cut = pieces(text, _PIECE)
        while batch := list(islice(cut, 16)):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoding.ids, dtype=np.int32)


def _character_table(tokenizer: Tokenizer) -> NDArray[np.int32] | None:
    """The id of every code point, if the tokenizer is a plain one of characters: two hundred times as fast as it."""
    parts = json.loads(tokenizer.to_str())
    model, every_character = parts["model"], {"type": "Split", "pattern": {"Regex": r"[\s\S]"}}
    vocabulary: dict[str, int] = model.get("vocab", {}) if model.get("type") == "WordLevel" else {}
    unknown = vocabulary.get(str(model.get("unk_token")))
    if unknown is None or parts["normalizer"] is not None or parts["added_tokens"]:
        return None
    if parts["pre_tokenizer"] != every_character | {"behavior": "Isolated", "invert": False}:
        return None
    table = np.full(0x110000, unknown, dtype=np.int32)
    for token, index in vocabulary.items():
        if len(token) == 1:
            table[ord(token)] = index
    return table


class StreamWindows:
    """Windows of a stream in batches, for ever: each epoch goes over the stream once, from another offset.

    A window has `context` + 1 tokens, of which all but the first are to be predicted; the next one begins with its
    last. Their order depends on the seed and the epoch alone.
    """

    def __init__(self, ids: Int[Tensor, "tokens"], context: int, *, batch_size: int, seed: int):
        if len(ids) <= context:
            raise InputError(
                f"a text of {len(ids)} tokens is shorter than one context of {context} and the token after it: "
                f"give a longer text, or a context of {max(1, len(ids) - 1)} at most"
            )
        self.ids, self.context, self.batch_size, self.seed = ids, context, batch_size, seed

    def epoch(self, number: int) -> RowBatches:
        """The place of the first token of every window, batch by batch; windows that fill no batch are left out."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        spare = len(self.ids) - self.context
        offset = int(torch.randint(min(self.context, spare), (), generator=generator))
        count = len(range(offset, spare, self.context))
        # As few bytes a window as there can be: of a large corpus this is what an epoch holds in memory.
        order = torch.randperm(count, generator=generator, dtype=torch.int32 if count < 1 << 31 else torch.int64)
        starts = torch.arange(max(1, count // self.batch_size)) * self.batch_size
        ends = (starts + self.batch_size).clamp(max=count)
        return RowBatches(order, starts, ends, offset=offset, step=self.context)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, context + 1) of the windows that begin at `rows`."""
        return {"ids": self.ids[torch.tensor(rows)[:, None] + torch.arange(self.context + 1)].long()}
