"""Tokenizers, each a plain `tokenizers.Tokenizer`: text to ids and back, saved as one `tokenizer.json`.

`encode(text)` gives `[BOS] text [EOS]` (for masked models `[CLS] text [SEP]` or `<s> text </s>`), and
`encode(text, add_special_tokens=False)` the text alone. The special tokens are ordinary entries of the vocabulary, not
*added tokens*, which the library would look for in every text. A text that says "[PAD]" is therefore encoded as five
characters or the pieces "[", "PAD" and "]". The decoder leaves the special tokens out of decoded text.

`transformers.PreTrainedTokenizerFast(tokenizer_file=...)` reads the file with the same result. Its options such as
`pad_token="[PAD]"` make added tokens; `split_special_tokens=True` then keeps a text that says "[PAD]" a text.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from minitransformer.errors import InputError
from minitransformer.files import sha256
from minitransformer.tokenizer_training import (  # noqa: F401 - all are offered here, too
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
from minitransformer.untrusted import damage_refused, read_json


def load_tokenizer(path: str | Path, *, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer saved at `path`; `InputError` if there is none, or with the `vocab_size` of a model in the same
    folder if it is not that model's.

    Its settings of padding and truncation are removed: here batches are padded together with a mask.
    """
    path = Path(path)
    if not path.exists():
        old = [name for name in _OLD_FILES if (path.parent / name).exists()]
        convert = f'AutoTokenizer.from_pretrained("{path.parent}").save_pretrained("{path.parent}")'
        way_out = f": it has {', '.join(old)}, of which transformers makes one: {convert}" if old else ""
        raise InputError(f"no tokenizer file at {path}{way_out}")
    read_json(path)  # refuses what the library would read by rules of its own, such as a token given twice
    with damage_refused(f"{path} is not a tokenizer saved by the tokenizers library", Exception):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Some incompatible parts fail only when they are used.
        for text in _TRIALS:
            tokenizer.decode(tokenizer.encode(text).ids)
        size = num_ids(tokenizer)
        found = tokenizer.encode(_RARE, add_special_tokens=False).ids
    if not found:
        warnings.warn(f"{path} has no token for what it does not know, and leaves it out of a text", stacklevel=2)
    if vocab_size is not None:
        if size > vocab_size:
            raise InputError(f"{path} has ids up to {size - 1}, its model knows 0 to {vocab_size - 1}")
        config = path.with_name("config.json")
        settings = read_json(config) if config.is_file() else {}
        saved = settings.get(FINGERPRINTS) if isinstance(settings, dict) else None
        if isinstance(saved, dict) and path.name in saved:
            if saved[path.name] != sha256(path):
                raise InputError(
                    f"{path} is not the tokenizer that this model was saved with: copy that one back, or remove "
                    f"{FINGERPRINTS!r} from {config} if it was changed on purpose"
                )
        elif "model_type" not in settings and not any(
            vocab_size == -(-size // multiple) * multiple for multiple in _PADDED
        ):
            raise InputError(
                f"{path} has {size} ids, its model knows {vocab_size}, and that is no padding: it seems to be another "
                "model's; if it is right, save both together: Completer(model, tokenizer).save(folder), say"
            )
    return tokenizer


FINGERPRINTS = "tokenizers"
"""The key of a model's config.json with the SHA-256 of each tokenizer file that it was saved with."""
_PADDED = (1, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The sizes of vocabularies are rounded up to multiples of these, for speed."""


def num_ids(tokenizer: Tokenizer) -> int:
    """One more than the largest id. A model may know more: its vocabulary may be padded."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


_OLD_FILES = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
"""What older checkpoints have instead of a tokenizer.json."""
_RARE = "\N{CJK UNIFIED IDEOGRAPH-2A6A5}"  # 64 strokes
_TRIALS = ("", "a", " The cat's 2 émigrés\n\tsat, 猫! ")


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token; `InputError` if the tokenizer does not have it."""
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
    """The special tokens as BERT and ALBERT or as RoBERTa name them; `InputError` if the tokenizer lacks one."""
    vocabulary = tokenizer.get_vocab()
    found = []
    for names in _MASKED_NAMES:
        known = [name for name in names if name in vocabulary]
        if not known:
            raise InputError(f"the tokenizer has no {' or '.join(names)}: it is not the tokenizer of a masked model")
        found.append(known[0])
    pad_id, cls_id, sep_id, mask_id = (vocabulary[name] for name in found)
    return MaskedSpecials(pad_id, cls_id, sep_id, mask_id, found[-1])


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """The ids of all special tokens: of tokenizers trained here, and of added tokens that are marked as special."""
    names = {*SPECIALS, *BERT_SPECIALS, *ROBERTA_SPECIALS, *chain.from_iterable(_MASKED_NAMES)}
    known = {index for token, index in tokenizer.get_vocab().items() if token in names}
    return known | {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def encode_with_masks(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of `text` between [CLS] and [SEP], where "[MASK]" (or "<mask>", as the vocabulary has it) is the mask.

    The mask includes the space before it, as in RoBERTa.
    """
    specials = masked_specials(tokenizer)
    ids = [specials.cls_id]
    *before, last = text.split(specials.mask_token)
    for part in before:
        ids += [*tokenizer.encode(part.rstrip(), add_special_tokens=False).ids, specials.mask_id]
    return [*ids, *tokenizer.encode(last, add_special_tokens=False).ids, specials.sep_id]


def stream_text(tokenizer: Tokenizer, ids: Iterable[int], *, after: Sequence[int] = ()) -> Iterator[str]:
    """The text of `ids`, piece by piece as they are generated; the pieces together are `tokenizer.decode(ids)`, or what
    this text has more where `ids` stand `after` others.

    Tokens of an incomplete character, which decode to U+FFFD, are held back until it is complete.
    `tokenizers.decoders.DecodeStream` would drop a cut-off end.
    """
    held: list[int] = []
    text = ""  # the text of the tokens held back
    before = list(after[-4:])  # some decoders leave out the space before the first token
    start = len(tokenizer.decode(before))

    def spelled(*tokens: int) -> str:
        return tokenizer.decode([*before, *tokens])[start:]

    for token_id in ids:
        alone = spelled(token_id)
        if not alone:  # a special token
            continue
        together = spelled(*held, token_id) if held else alone
        if together == text + alone:
            # This token does not continue the character held back, which therefore stays incomplete.
            if text:
                yield text
            held, text = [token_id], alone
        else:
            held, text = [*held, token_id], together
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            before, held, text = held[-1:], [], ""
            start = len(tokenizer.decode(before))
    if text:
        yield text


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """What each token adds to the decoded text, so that side by side they are the text; a special token, which adds
    nothing, gives its name. Of the tokens that spell one character together, the last gives it."""
    special = special_ids(tokenizer)
    texts, read = [], 0
    for place, token in enumerate(ids, start=1):
        text = tokenizer.decode(ids[:place])
        complete = place == len(ids) or not text.endswith("\N{REPLACEMENT CHARACTER}")
        texts.append(str(tokenizer.id_to_token(token)) if token in special else text[read:] if complete else "")
        read = len(text) if complete else read
    return texts


def unknown_id(tokenizer: Tokenizer) -> int:
    """The id of what the tokenizer does not know; -1, which is no id, if it knows everything, as one of bytes does."""
    names = (getattr(tokenizer.model, "unk_token", None), UNK, "<unk>")
    found = (tokenizer.token_to_id(name) for name in names if name is not None)
    return next((index for index in found if index is not None), -1)


def unknown_characters(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """The parts of `texts` that the tokenizer does not know, characters or words, and how often each occurs."""
    texts, unknown = list(texts), unknown_id(tokenizer)
    return Counter(
        text[slice(*span)]
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True)
        for token_id, span in zip(encoding.ids, encoding.offsets, strict=True)
        if token_id == unknown
    )
