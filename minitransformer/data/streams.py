"""Running text as one long row of tokens, cut into windows to train a causal model on."""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from minitransformer.errors import InputError
from minitransformer.tokenization import end_of_text_id

_PIECE = 1 << 13  # characters to encode at once: an encoding takes a hundred times the room of its ids
_WORD_ENDS = re.compile(r"(?<=\S)(?=\s)")


def token_stream(texts: Iterable[str], tokenizer: Tokenizer) -> Int[Tensor, "tokens"]:
    """End-of-text and then the tokens of a text, for each of `texts`: so every token of text has one before it."""
    end_of_text = end_of_text_id(tokenizer)
    ids = array("i")
    for text in texts:
        ids.append(end_of_text)
        pieces = _pieces(text)
        while batch := list(islice(pieces, 16)):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                ids.extend(encoding.ids)
    return torch.tensor(ids, dtype=torch.int32)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces, cut before white space that follows a word: no token of ours or of GPT-2's reaches over."""
    start = 0
    while len(text) - start > _PIECE:
        cut = _WORD_ENDS.search(text, start + _PIECE)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


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

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        """The first token of every window, batch by batch; windows left over are of another epoch's batches."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        spare = len(self.ids) - self.context
        offset = int(torch.randint(min(self.context, spare), (), generator=generator))
        starts = torch.arange(offset, spare, self.context)
        starts = starts[torch.randperm(len(starts), generator=generator)]
        whole = max(1, len(starts) // self.batch_size) * self.batch_size
        return [batch.tolist() for batch in starts[:whole].split(self.batch_size)]

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`ids` (B, context + 1) of the windows that begin at `rows`."""
        return {"ids": self.ids[torch.tensor(rows)[:, None] + torch.arange(self.context + 1)].long()}
