"""Tokenizers, each a plain `tokenizers.Tokenizer`: text to ids and back, saved as one `tokenizer.json`.

`encode(text)` gives `[BOS] text [EOS]`, and `encode(text, add_special_tokens=False)` the text alone. The specials are
ordinary entries of the vocabulary and not *added tokens*, which the library would look for in every text it encodes.
So a text that says "[PAD]" is five characters, here and wherever `tokenizer.json` is loaded, and the decoder, not the
list of added tokens, leaves the specials out of decoded text.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from minitransformer.errors import InputError

PAD, UNK, BOS, EOS = SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
"""The first four entries of every vocabulary trained here: ids 0, 1, 2, 3."""


def train_character_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token per Unicode code point of `texts`, spaces and newlines included; the vocabulary is sorted.

    Nothing is normalised: text of known characters comes back from `decode` exactly, and "é" written as one code
    point or as two stays what it was. An unknown character becomes one [UNK], which `decode` leaves out.
    """
    characters = sorted(set(chain.from_iterable(texts)))
    if not characters:
        raise InputError("the texts hold no characters, so there is nothing to make a vocabulary of")
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    # Not ".", which passes over newlines.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    )
    # A token of text is one character here, so a whole token that reads "[PAD]" can only be the special one.
    tokenizer.decoder = decoders.Sequence([*(decoders.Replace(token, "") for token in SPECIALS), decoders.Fuse()])
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at `path`, or an `InputError` where there is none."""
    if not Path(path).is_file():
        raise InputError(f"no tokenizer file at {path}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower, whatever is wrong with the file
        raise InputError(f"{path} is not a tokenizer saved by the tokenizers library: {error}") from error


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token; `InputError` if the tokenizer has none such."""
    index = tokenizer.token_to_id(token)
    if index is None:
        raise InputError(f"the tokenizer has no token {token}, which batches of pairs need")
    return index


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
