"""Running text as one stream of tokens, cut into windows to train a causal model on."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.data.batching import RowBatches
from minitransformer.data.running_text import documents, pieces
from minitransformer.data.token_rows import TokenRows, token_rows
from minitransformer.errors import InputError
from minitransformer.tokenization import end_of_text_id, unknown_id

if TYPE_CHECKING:
    import datasets

_PIECE = 1 << 13  # characters
_PIECES = 16  # encoded together: an encoding takes a hundred times the memory of its ids


def stream_rows(split: "datasets.Dataset", tokenizer: Tokenizer) -> TokenRows:
    """The texts of a split as a stream: `ids` is end-of-text and the tokens of the text, for each text.

    So every token of text has one before it. A row is a piece of text; its columns count `unknown`, the tokens that are
    [UNK], and `bytes`, those of its text in UTF-8.
    """
    return token_rows(
        lambda: _encoded(split, tokenizer),
        columns=["unknown", "bytes"],
        tokenizers=[tokenizer],
        key=["stream", split._fingerprint],
    )


def _encoded(split: "datasets.Dataset", tokenizer: Tokenizer) -> Iterator[tuple[Any, int, int]]:
    """The ids of each piece of each text, how many of them are unknown, and the bytes of the piece."""
    end_of_text, unknown = end_of_text_id(tokenizer), unknown_id(tokenizer)
    table = _character_table(tokenizer)
    for text in documents(split):
        yield [end_of_text], 0, 0
        waiting = pieces(text, _PIECE)
        while batch := list(islice(waiting, _PIECES)):
            if table is not None:
                found = [table[np.frombuffer(piece.encode("utf-32-le"), dtype="<u4")] for piece in batch]
            else:
                encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                found = [np.asarray(each.ids, dtype=np.int32) for each in encodings]
            for piece, ids in zip(batch, found, strict=True):
                yield ids, int(np.count_nonzero(ids == unknown)), len(piece.encode())


def _character_table(tokenizer: Tokenizer) -> NDArray[np.int32] | None:
    """The id of every code point, if the tokenizer is a plain one of characters.

    Looking ids up is faster than the tokenizer: the first `python -m train.pretrain gpt` on a text, until its first
    step, takes 3.5 s on one core with this table and 4.9 s without.
    """
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
    """Windows of a stream in batches, without end: each epoch reads the stream once, from another offset.

    A window has `context` + 1 tokens, of which all but the first are predicted; the next window begins with its last
    token. The order of windows depends on the seed and the epoch alone.
    """

    fixed_shapes = True

    def __init__(self, ids: Int[Tensor, "tokens"], context: int, *, batch_size: int, seed: int):
        if len(ids) <= context:
            raise InputError(
                f"a text of {len(ids)} tokens is shorter than one context of {context} and the token after it: "
                f"give a longer text, or a context of {max(1, len(ids) - 1)} at most"
            )
        self.ids, self.context, self.batch_size, self.seed = ids, context, batch_size, seed

    def epoch(self, number: int) -> RowBatches:
        """The place of the first token of every window, batch by batch. Windows that fill no batch are left out."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        spare = len(self.ids) - self.context
        offset = int(torch.randint(min(self.context, spare), (), generator=generator))
        count = len(range(offset, spare, self.context))
        # This is what an epoch holds in memory for every window of a large corpus: 4 bytes where they suffice.
        order = torch.randperm(count, generator=generator, dtype=torch.int32 if count < 1 << 31 else torch.int64)
        starts = torch.arange(max(1, count // self.batch_size)) * self.batch_size
        ends = (starts + self.batch_size).clamp(max=count)
        return RowBatches(order, starts, ends, offset=offset, step=self.context)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, context + 1) of the windows that begin at `rows`."""
        return {"ids": self.ids[torch.tensor(rows)[:, None] + torch.arange(self.context + 1)].long()}
