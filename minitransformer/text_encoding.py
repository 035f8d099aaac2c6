"""Texts as an encoder reads them: ids between [CLS] and [SEP], which of them spell which word, and padding."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import regex
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minitransformer.errors import InputError
from minitransformer.tokenization import end_of_text_id, masked_specials, unknown_characters, unknown_id

_BATCH = 1000  # texts encoded together: an encoding takes a hundred times the memory of its ids


def pad(sequences: Sequence[Sequence[int]], pad_id: int) -> Int[Tensor, "batch time"]:
    """The sequences as rows of one tensor, padded with `pad_id` on the right."""
    if not sequences:
        return torch.zeros(0, 0, dtype=torch.int64)
    rows = [torch.tensor(sequence, dtype=torch.int64) for sequence in sequences]
    return pad_sequence(rows, batch_first=True, padding_value=pad_id)


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, max_length: int
) -> tuple[list[list[int]], int, Counter[str]]:
    """The ids of each text between its two marks (see `text_frame`), cut to `max_length`; how many texts were cut; and
    the parts of texts that the tokenizer does not know, counted.

    A text that spells a special token, such as "[SEP]", is encoded as ordinary text.
    """
    (first, last), unknown = text_frame(tokenizer), unknown_id(tokenizer)
    tokenizer = plain_tokenizer(tokenizer)
    rows, cut, parts = [], 0, Counter[str]()
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        with_unknown = (text for text, each in zip(batch, encodings, strict=True) if unknown in each.ids)
        parts += unknown_characters(tokenizer, with_unknown)
        for encoding in encodings:
            row = [first, *encoding.ids, last]
            cut += len(row) > max_length
            rows.append(row if len(row) <= max_length else [*row[: max_length - 1], last])
    return rows, cut, parts


def words_of(text: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """The words of a text as it spells them, each with the places of its tokens in `ids` from `encode_texts`.

    Side by side, and without white space around them, they are the text, as far as `ids` go. No word divides what a
    reader takes for one character, such as a letter and its marks. The marks around the text are words of their own.
    """
    encoding = plain_tokenizer(tokenizer).encode(text, add_special_tokens=False)
    last, length = len(ids) - 1, len(text.rstrip())
    whole = [0]  # for each place between code points, where the character ends that it is in
    for character in regex.finditer(r"\X", text):
        whole += [character.end()] * len(character[0])
    ends: list[int] = [0]  # where words end in the text
    words: list[list[int]] = []  # the places of their tokens
    previous = None
    for place, ((start, end), word) in enumerate(zip(encoding.offsets, encoding.word_ids, strict=True), start=1):
        if place == last:
            break
        end = whole[end]
        # Several tokens may spell one character, and white space alone is no word.
        same = (word is not None and word == previous) or start < ends[-1] or start >= length
        if words and (same or not text[ends[-2] : ends[-1]].strip()):
            words[-1].append(place)
            ends[-1] = max(ends[-1], end)
        else:
            words.append([place])
            ends.append(end)
        previous = word
    if len(encoding.ids) < last:
        ends[-1] = len(text)
    spelled = [text[start:end].strip() for start, end in pairwise(ends)]
    first_mark, last_mark = (str(tokenizer.id_to_token(ids[place])) for place in (0, last))
    return [(first_mark, [0]), *zip(spelled, words, strict=True), (last_mark, [last])]


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither pads, cuts, nor looks for special tokens in a text, as a checkpoint's tokenizer may."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def text_frame(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids before and after a text: [CLS] and [SEP] (RoBERTa's `<s>` and `</s>`), else end-of-text on both sides."""
    try:
        specials = masked_specials(tokenizer)
    except InputError:
        end = end_of_text_id(tokenizer)
        return end, end
    return specials.cls_id, specials.sep_id
