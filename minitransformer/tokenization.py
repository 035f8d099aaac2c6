"""Tokenizers, each a plain `tokenizers.Tokenizer`: text to ids and back, saved as one `tokenizer.json`.

`encode(text)` gives `[BOS] text [EOS]` (for masked models `[CLS] text [SEP]` or `<s> text </s>`), and
`encode(text, add_special_tokens=False)` the text alone. The specials are ordinary entries of the vocabulary and not
*added tokens*, which the library would look for in every text it encodes. So a text that says "[PAD]" is five
characters or the pieces "[", "PAD" and "]", here and wherever `tokenizer.json` is loaded, and the decoder, not the list
of added tokens, leaves the specials out of decoded text.

`transformers.PreTrainedTokenizerFast(tokenizer_file=...)` reads the file and agrees. Told `pad_token="[PAD]"` and the
like, it pads, and makes added tokens of them: then `split_special_tokens=True` keeps a text that says "[PAD]" a text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from minitransformer.errors import InputError
from minitransformer.tokenizer_training import (
    BERT_SPECIALS,
    BOS,
    EOS,
    PAD,
    ROBERTA_SPECIALS,
    SPECIALS,
    UNK,
    train_bpe_tokenizer,
    train_byte_bpe_tokenizer,
    train_character_tokenizer,
    train_roberta_tokenizer,
    train_wordpiece_tokenizer,
)
from minitransformer.untrusted import panics_refused, require_sane_file

__all__ = [
    "BERT_SPECIALS",
    "BOS",
    "EOS",
    "PAD",
    "ROBERTA_SPECIALS",
    "SPECIALS",
    "UNK",
    "MaskedSpecials",
    "encode_with_masks",
    "end_of_text_id",
    "load_tokenizer",
    "masked_specials",
    "special_id",
    "special_ids",
    "stream_text",
    "train_bpe_tokenizer",
    "train_byte_bpe_tokenizer",
    "train_character_tokenizer",
    "train_roberta_tokenizer",
    "train_wordpiece_tokenizer",
    "unknown_characters",
]


def load_tokenizer(path: str | Path, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer saved at `path`, or an `InputError` where there is none, or one whose ids reach beyond a model's
    `vocab_size`.

    What it was told of padding and truncation is left behind: here batches are padded with a mask beside them.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no tokenizer file at {path}")
    require_sane_file(path)
    with panics_refused(f"{path} is not a tokenizer saved by the tokenizers library"):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Some parts that do not go together show only when they work.
        for text in _TRIALS:
            tokenizer.decode(tokenizer.encode(text).ids)
        largest = max(tokenizer.get_vocab().values(), default=-1)
    if vocab_size is not None and largest >= vocab_size:
        raise InputError(f"{path} has ids up to {largest}, its model knows 0 to {vocab_size - 1}")
    return tokenizer


_TRIALS = ("", "a", " The cat's 2 émigrés\n\tsat, 猫! ")


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token; `InputError` if the tokenizer has none such."""
    index = tokenizer.token_to_id(token)
    if index is None:
        raise InputError(f"the tokenizer has no token {token}, which batches of pairs need")
    return index


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """The id of the token that ends a text: ``[EOS]``, GPT-2's ``<|endoftext|>`` or RoBERTa's ``</s>``."""
    names = (EOS, "<|endoftext|>", "</s>")
    for name in names:
        index = tokenizer.token_to_id(name)
        if index is not None:
            return index
    raise InputError(f"the tokenizer has no token that ends a text: none of {', '.join(names)}")


class MaskedSpecials(NamedTuple):
    """The special tokens of a masked model's vocabulary; `mask_token` is the mask as a text spells it."""

    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    mask_token: str


_MASKED_NAMES = (("[PAD]", "<pad>"), ("[CLS]", "<s>", "<cls>"), ("[SEP]", "</s>", "<sep>"), ("[MASK]", "<mask>"))


def masked_specials(tokenizer: Tokenizer) -> MaskedSpecials:
    """Those of BERT or ALBERT, or RoBERTa's, whose names differ; `InputError` if the tokenizer lacks one."""
    vocabulary = tokenizer.get_vocab()
    found = []
    for names in _MASKED_NAMES:
        known = [name for name in names if name in vocabulary]
        if not known:
            raise InputError(f"the tokenizer has no {' or '.join(names)}: it is not that of a masked model")
        found.append(known[0])
    pad_id, cls_id, sep_id, mask_id = (vocabulary[name] for name in found)
    return MaskedSpecials(pad_id, cls_id, sep_id, mask_id, found[-1])


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """All ids that stand for no text: the specials of any tokenizer trained here, and what was added as special."""
    names = {*SPECIALS, *BERT_SPECIALS, *ROBERTA_SPECIALS, *chain.from_iterable(_MASKED_NAMES)}
    known = {index for token, index in tokenizer.get_vocab().items() if token in names}
    return known | {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def encode_with_masks(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of `text` between [CLS] and [SEP], where "[MASK]" (or "<mask>", as the vocabulary has it) is the mask.

    As RoBERTa's mask, it takes the space before it with it.
    """
    specials = masked_specials(tokenizer)
    ids = [specials.cls_id]
    *before, last = text.split(specials.mask_token)
    for part in before:
        ids += [*tokenizer.encode(part.rstrip(), add_special_tokens=False).ids, specials.mask_id]
    return [*ids, *tokenizer.encode(last, add_special_tokens=False).ids, specials.sep_id]


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """The text of `ids` as they come; the pieces together are `tokenizer.decode(ids)`.

    A character of several tokens waits for its last: cut short, it would decode to U+FFFD. For decoders that put
    tokens side by side, as all here and GPT-2's do. `tokenizers.decoders.DecodeStream` keeps a cut-off end to itself.
    """
    held: list[int] = []
    text = ""  # of the tokens held back
    for token_id in ids:
        alone = tokenizer.decode([token_id])
        if not alone:  # a special token
            continue
        together = tokenizer.decode([*held, token_id]) if held else alone
        if together == text + alone:
            # This token goes on with no character begun before it, so what was held back is what it is.
            if text:
                yield text
            held, text = [token_id], alone
        else:
            held, text = [*held, token_id], together
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            held, text = [], ""
    if text:
        yield text


def unknown_characters(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each piece of `texts` that the vocabulary lacks occurs: what becomes [UNK]."""
    texts = list(texts)
    unknown_id = tokenizer.token_to_id(UNK)
    return Counter(
        text[slice(*span)]
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True)
        for token_id, span in zip(encoding.ids, encoding.offsets, strict=True)
        if token_id == unknown_id
    )
